"""The end of a fit: last evaluation, exported models, the table that compares them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from embedft.data.texts import query_rows
from embedft.encoder.checkpoint import load_weights, read_checkpoint
from embedft.encoder.digest import weights_digest
from embedft.errors import RunFailedError
from embedft.evaluation.verdict import comparison, is_worse, verdict
from embedft.export.model_card import ModelCard
from embedft.export.sentence_transformers import export_encoder
from embedft.report.by_question import by_file, write_by_question
from embedft.report.fit_report import write_report
from embedft.report.run_data import collect, read_log
from embedft.run.best import choose_best_model
from embedft.run.checkpoints import AtomicCheckpointIO, copy_checkpoint
from embedft.run.forgetting import evaluate_forgetting, forgetting_sentence
from embedft.run.interpolation import interpolate_with_base
from embedft.run.metrics_log import timestamp
from embedft.run.run import Run
from embedft.run.signals import raise_if_sigterm
from embedft.run.tensorboard import log_outcome
from embedft.tools.files import write_json
from embedft.tools.log import RESULT

log = logging.getLogger(__name__)


def finish_run(run: Run) -> None:
    """Evaluates the last weights if that is missing; exports ``final_model`` and ``best_model``.

    Runs on all ranks; the first writes the files.

    Args:
        run: After ``fit``. Its module holds the weights of ``best_model`` afterwards.
    """
    first = run.trainer.is_global_zero
    _save_last(run)
    _check_base_model(run)
    _keep_averaged_weights(run)
    _evaluate_last(run)
    interpolated = interpolate_with_base(run) if run.module.base_share else None
    run.module.cpu()
    if first:
        _export(run, run.folder.final_model, run.evaluations["last"])
    chosen = _load_best_model(run, interpolated)
    forgetting, sentence = _evaluate_forgetting(run, chosen)
    if not first:
        return
    run.module.cpu()
    _export(run, run.folder.best_model, chosen, sentence)
    metrics = {
        **run.evaluations,
        "best_model": chosen,
        "data": run.data.fit_data.counts,
        **forgetting,
    }
    write_json(run.folder.metrics, metrics)
    run.metrics_log.end(
        training_completed=True,
        completed_at=timestamp(),
        final_model_path=str(run.folder.final_model),
    )
    log.log(RESULT, "%s", outcome_text(run, sentence))
    _write_report(run, metrics, sentence)


def _save_last(run: Run) -> None:
    """Saves the last weights if ``last.ckpt`` has earlier ones."""
    trainer, last = run.trainer, run.folder.last_checkpoint
    missing = not last.is_file() or read_checkpoint(last)["global_step"] != trainer.global_step
    if trainer.strategy.broadcast(missing):  # the first rank decides: others may not have the file
        trainer.save_checkpoint(last)
    if trainer.is_global_zero:
        run.folder.delete_requeue_checkpoints()
    trainer.strategy.barrier()


def _check_base_model(run: Run) -> None:
    """Refuses to read the base model again if it is not the one that the run began with.

    Raises:
        RunFailedError: Its weights were changed or removed while the run trained.
    """
    base = run.module.encoder.base
    if weights_digest(base) != run.module.base_digest:
        raise RunFailedError(
            f"base_model {base.name}: its weights were changed or removed while the run trained; "
            "training is complete and saved. Restore them, and rerun with --ckpt_path last to "
            "export models"
        )


def _keep_averaged_weights(run: Run) -> None:
    """Keeps Lightning's weight averaging from swapping the weights in the evaluations to come."""
    callbacks: list[Callback] = run.trainer.callbacks  # type: ignore[attr-defined]  # untyped
    others = [callback for callback in callbacks if not isinstance(callback, WeightAveraging)]
    if len(others) == len(callbacks):
        return
    run.trainer.callbacks = others  # type: ignore[attr-defined]
    if run.trainer.is_global_zero:  # a resumed run that trained nothing has the plain weights
        last = run.folder.last_checkpoint
        load_weights(run.module.encoder, read_checkpoint(last), last)


def _evaluate_last(run: Run) -> None:
    """Evaluates the last weights if that is missing; without a best evaluation it is the best."""
    trainer, folder = run.trainer, run.folder
    if run.evaluations.get("last", {}).get("step") != trainer.global_step:
        trainer.validate(run.module, datamodule=run.data, verbose=False)  # metrics_log records it
        raise_if_sigterm(trainer)
        if trainer.is_global_zero:
            checkpoint = read_checkpoint(folder.last_checkpoint)
            checkpoint["callbacks"][run.metrics_log.state_key] = run.metrics_log.state_dict()
            AtomicCheckpointIO().save_checkpoint(checkpoint, folder.last_checkpoint)
    run.evaluations.setdefault("best", run.evaluations["last"])
    if run.evaluations["best"] is run.evaluations["last"] and trainer.is_global_zero:
        copy_checkpoint(folder.last_checkpoint, folder.best_checkpoint)


def _load_best_model(run: Run, interpolated: dict[str, Tensor] | None) -> dict[str, Any]:
    """Gives the module the weights of ``best_model``, and returns their evaluation.

    On ranks other than the first, tuned weights stay to be loaded: they may not have the file.
    """
    encoder, best = run.module.encoder, run.folder.best_checkpoint
    choice = choose_best_model(run.evaluations)
    if choice == "base":
        encoder.restore_base_weights()
        return run.evaluations["base"]
    if choice == "interpolated":
        assert interpolated is not None
        encoder.load_state_dict(interpolated)
    elif run.trainer.is_global_zero:
        load_weights(encoder, read_checkpoint(best), best)
    return run.evaluations["best"]


def _evaluate_forgetting(run: Run, chosen: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """What ``metrics.json`` keeps of the forgetting set, and a sentence; empty without a set."""
    if run.data.guard_jsonl is None:
        return {}, ""
    if chosen is run.evaluations.get("base"):
        return {}, "Nothing is forgotten elsewhere: the best model is the base model."
    trainer, encoder = run.trainer, run.module.encoder
    if trainer.world_size > 1:
        encoder.load_state_dict(trainer.strategy.broadcast(encoder.weights()))
    result = evaluate_forgetting(run)
    return {"guard": result}, forgetting_sentence(result)


def _export(run: Run, target: Path, evaluation: dict[str, Any], forgetting: str = "") -> None:
    """Writes the module's weights as a sentence-transformers folder with its model card."""
    encoder = run.module.encoder
    share = evaluation.get("base_share", 0.0)
    card = ModelCard(
        base_model=encoder.base.name,
        hub_id=encoder.base.hub_id,
        embedding_dim=encoder.embedding_dim,
        max_seq_length=encoder.max_seq_length,
        data=run.data.fit_data.counts,
        hyperparameters=run.hyperparameters | {"base_share": share},
        base=run.evaluations.get("base"),
        tuned=evaluation,
        forgetting=forgetting,
        prompts=encoder.base.prompts,
    )
    export_encoder(encoder, target, card)


def _write_report(run: Run, metrics: dict[str, Any], forgetting: str) -> None:
    """Writes what names the questions: metrics by question and file, curves, report.

    It reads them from the input file. If that was changed meanwhile, this raises an error, and all
    other files of the run are there.
    """
    data, folder, results = run.data, run.folder, run.metrics_log.evaluations.results
    base_model = run.module.encoder.base.name
    rows = query_rows(data)
    ndcg = {
        name: of_name.ndcg for name, of_name in results.items() if len(of_name.ndcg) == len(rows)
    }
    write_by_question(folder.metrics_by_question, rows, ndcg)
    write_json(folder.metrics, metrics | {"files": by_file(rows, ndcg)})
    report_data = collect(
        data,
        run.evaluations,
        results,
        rows,
        settings={"base_model": base_model, **run.hyperparameters},
        forgetting=forgetting,
        log=read_log(folder.training_metrics),
    )
    log_outcome(run.trainer.loggers, run.trainer.global_step, report_data)
    write_report(run.report, f"{base_model} tuned on {data.input_jsonl}", report_data)


def outcome_text(run: Run, forgetting: str) -> str:
    """The final table, a plain sentence on the gain, and the path of each file."""
    folder = run.folder
    base, best, last = (run.evaluations.get(name) for name in ("base", "best", "last"))
    best_model = base if is_worse(base, best) else best
    columns = {"base": base, "best_model": best_model, "last step": last}
    steps = {name: values["step"] for name, values in columns.items() if values is not None}
    made_of = ""
    if is_worse(base, best):
        made_of = " (the base model)"
    elif best is not None and (share := best.get("base_share")):
        made_of = f" ({1 - share:.0%} tuned weights, {share:.0%} the base model's)"
    lines = [
        "",
        comparison(columns),
        "",
        ", ".join(f"{name}: step {step}" for name, step in steps.items()),
        verdict(base, best)
        or "The base model was not evaluated, because num_sanity_val_steps is not -1.",
        *([forgetting] if forgetting else []),
        "",
        f"best model:  {folder.best_model}{made_of}",
        f"last model:  {folder.final_model}",
        f"checkpoints: {folder.checkpoints}",
        f"metrics:     {folder.metrics}; by question: {folder.metrics_by_question}",
        f"report:      {run.report}",
        f"curves:      tensorboard --logdir {folder.logs}",
    ]
    return "\n".join(lines)
