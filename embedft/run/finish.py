"""The end of a fit: last evaluation, exported models, the table that compares them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import WeightAveraging

from embedft.data.datamodule import EmbeddingDataModule
from embedft.data.texts import query_rows
from embedft.encoder.checkpoint import load_weights, read_checkpoint
from embedft.evaluation.verdict import comparison, is_worse, verdict
from embedft.export.model_card import ModelCard
from embedft.export.sentence_transformers import export_encoder
from embedft.report.by_question import by_file, write_by_question
from embedft.report.fit_report import write_report
from embedft.report.run_data import collect, read_log
from embedft.run.checkpoints import AtomicCheckpointIO, copy_checkpoint
from embedft.run.folder import RunFolder
from embedft.run.forgetting import forgetting_sentence, measure_forgetting
from embedft.run.interpolation import interpolate_with_base
from embedft.run.metrics_log import MetricsLog, timestamp
from embedft.run.signals import raise_if_sigterm
from embedft.run.tensorboard import log_outcome
from embedft.tools.files import write_json
from embedft.tools.log import RESULT
from embedft.training.module import EmbeddingModule

log = logging.getLogger(__name__)


def finish_run(
    trainer: Trainer,
    module: EmbeddingModule,
    data: EmbeddingDataModule,
    folder: RunFolder,
    metrics_log: MetricsLog,
    hyperparameters: dict[str, Any],
    report: Path,
) -> None:
    """Measures the last weights if nobody has, exports ``final_model`` and ``best_model``.

    Args:
        trainer: After ``fit``.
        module: With the last weights; it holds the best ones afterwards, or the base model's if
            no weights that were measured are as good.
        data: The data of the fit.
        folder: Where to write.
        metrics_log: Holds the evaluations.
        hyperparameters: For model cards and report.
        report: File of the report.
    """
    last = folder.checkpoints / "last.ckpt"
    best = folder.checkpoints / "best.ckpt"
    evaluations = metrics_log.evaluations
    older = not last.is_file() or read_checkpoint(last)["global_step"] != trainer.global_step
    if trainer.strategy.broadcast(older):  # the first rank's word: hosts may not share the folder
        trainer.save_checkpoint(last)
    if trainer.is_global_zero:
        folder.forget_requeued()
    trainer.strategy.barrier()
    _keep_averaged_weights(trainer, module, last)
    if evaluations.get("last", {}).get("step") != trainer.global_step:
        trainer.validate(module, datamodule=data, verbose=False)  # metrics_log takes note
        raise_if_sigterm(trainer)
        if trainer.is_global_zero:
            checkpoint = read_checkpoint(last)
            checkpoint["callbacks"][metrics_log.state_key] = metrics_log.state_dict()
            AtomicCheckpointIO().save_checkpoint(checkpoint, last)
    evaluations.setdefault("best", evaluations["last"])
    if evaluations["best"] is evaluations["last"] and trainer.is_global_zero:
        copy_checkpoint(last, best)
    weights = (
        interpolate_with_base(trainer, module, data, metrics_log, best)
        if module.recipe.base_share
        else None
    )

    def export(target: Path, evaluation: dict[str, Any], forgetting: str = "") -> None:
        card = ModelCard(
            base_model=module.encoder.base.name,
            hub_id=module.encoder.base.hub_id,
            embedding_dim=module.encoder.embedding_dim,
            max_seq_length=module.encoder.max_seq_length,
            data=data.counts,
            hyperparameters=hyperparameters | {"base_share": evaluation.get("base_share", 0.0)},
            base=evaluations.get("base"),
            tuned=evaluation,
            forgetting=forgetting,
            prompts=module.encoder.base.prompts,
        )
        export_encoder(module.encoder, target, card)

    module.cpu()
    if trainer.is_global_zero:
        export(folder.final_model, evaluations["last"])
    recommended = evaluations["best"]
    if weights is not None:
        module.encoder.load_state_dict(weights)
    elif is_worse(evaluations.get("base"), recommended):
        recommended = evaluations["base"]
        module.encoder.restore_base_weights()
    elif trainer.is_global_zero:
        load_weights(module.encoder, read_checkpoint(best), best)
    results = {**evaluations, "best_model": recommended, "data": data.counts}
    forgetting = ""
    if data.guard_jsonl is not None and recommended is evaluations.get("base"):
        forgetting = "Nothing is forgotten elsewhere: the best model is the base model."
    elif data.guard_jsonl is not None:
        if trainer.world_size > 1:  # the first rank's: hosts may not share the folder
            module.encoder.load_state_dict(trainer.strategy.broadcast(module.encoder.weights()))
        results["guard"] = measure_forgetting(module, data, trainer)
        forgetting = forgetting_sentence(results["guard"])
    if not trainer.is_global_zero:
        return
    module.cpu()
    export(folder.best_model, recommended, forgetting)
    write_json(folder.metrics, results)
    metrics_log.end(
        training_completed=True,
        completed_at=timestamp(),
        final_model_path=str(folder.final_model),
    )
    log.log(RESULT, "%s", outcome_in_words(evaluations, forgetting, folder, report))
    rows = query_rows(data)  # which the file may have lost meanwhile: all that is above is there
    query_results = metrics_log.query_results
    ndcg = {
        name: found.ndcg for name, found in query_results.items() if len(found.ndcg) == len(rows)
    }
    write_by_question(folder.metrics_by_question, rows, ndcg)
    write_json(folder.metrics, results | {"files": by_file(rows, ndcg)})
    report_data = collect(
        data,
        evaluations,
        query_results,
        rows,
        settings={"base_model": module.encoder.base.name, **hyperparameters},
        forgetting=forgetting,
        log=read_log(metrics_log.metrics_file),
    )
    log_outcome(trainer.loggers, trainer.global_step, report_data)
    write_report(report, f"{module.encoder.base.name} tuned on {data.input_jsonl}", report_data)


def _keep_averaged_weights(trainer: Trainer, module: EmbeddingModule, last: Path) -> None:
    """Lightning's weight averaging would put its weights in place of those that are measured."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by Lightning
    others = [callback for callback in callbacks if not isinstance(callback, WeightAveraging)]
    if len(others) == len(callbacks):
        return
    trainer.callbacks = others  # type: ignore[attr-defined]
    if trainer.is_global_zero:  # a run that had nothing left to do has the others in place
        load_weights(module.encoder, read_checkpoint(last), last)


def outcome_in_words(
    evaluations: dict[str, dict[str, Any]], forgetting: str, folder: RunFolder, report: Path
) -> str:
    """The final table, a plain sentence on the gain, and where everything is."""
    base, best, last = (evaluations.get(name) for name in ("base", "best", "last"))
    columns = {"base": base, "best": best, "last": last}
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
        verdict(base, best) or "The base model was not measured (num_sanity_val_steps is not -1).",
        *([forgetting] if forgetting else []),
        "",
        f"best model:  {folder.best_model}{made_of}",
        f"last model:  {folder.final_model}",
        f"checkpoints: {folder.checkpoints}",
        f"figures:     {folder.metrics}; by question: {folder.metrics_by_question}",
        f"report:      {report}",
        f"curves:      tensorboard --logdir {folder.path / 'logs'}",
    ]
    return "\n".join(lines)
