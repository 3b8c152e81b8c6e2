"""The end of a fit: last evaluation, exported models, the table that compares them."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from embedft.checkpoint import load_weights, read_checkpoint
from embedft.data.datamodule import EmbeddingDataModule
from embedft.evaluation.by_question import by_file, write_by_question
from embedft.export import export_encoder
from embedft.files import replacing_file, write_json
from embedft.model_card import ModelCard, comparison, is_worse, verdict
from embedft.run_folder import RunFolder
from embedft.training.guard import guard_in_words, measure_guard
from embedft.training.mixing import mixed_with_base
from embedft.training.module import EmbeddingModule
from embedft.training.run_files import RunFiles, timestamp
from embedft.training.trainer import AtomicCheckpointIO

log = logging.getLogger(__name__)


def finish_run(
    trainer: Trainer,
    module: EmbeddingModule,
    data: EmbeddingDataModule,
    folder: RunFolder,
    run_files: RunFiles,
    hyperparameters: dict[str, Any],
) -> None:
    """Measures the last weights if nobody has, exports ``final_model`` and ``best_model``.

    Args:
        trainer: After ``fit``.
        module: With the last weights; it holds the best ones afterwards, or the base model's if
            no weights that were measured are as good.
        data: The data of the fit.
        folder: Where to write.
        run_files: Holds the evaluations.
        hyperparameters: For the model cards.
    """
    last = folder.checkpoints / "last.ckpt"
    best = folder.checkpoints / "best.ckpt"
    evaluations = run_files.evaluations
    older = not last.is_file() or read_checkpoint(last)["global_step"] != trainer.global_step
    if trainer.strategy.broadcast(older):  # the first rank's word: hosts may not share the folder
        trainer.save_checkpoint(last)
    if evaluations.get("last", {}).get("step") != trainer.global_step:
        trainer.validate(module, datamodule=data, verbose=False)  # run_files takes note
        if trainer.is_global_zero:
            checkpoint = read_checkpoint(last)
            checkpoint["callbacks"][run_files.state_key] = run_files.state_dict()
            AtomicCheckpointIO().save_checkpoint(checkpoint, last)
    evaluations.setdefault("best", evaluations["last"])
    if evaluations["best"] is evaluations["last"] and trainer.is_global_zero:
        with replacing_file(best) as temporary:
            shutil.copyfile(last, temporary)
    weights = mixed_with_base(trainer, module, data, run_files, best) if module.base_share else None
    if not trainer.is_global_zero:
        return

    def export(target: Path, evaluation: dict[str, Any], guard: str = "") -> None:
        card = ModelCard(
            base_model=module.encoder.base.name,
            hub_id=module.encoder.base.hub_id,
            embedding_dim=module.encoder.embedding_dim,
            max_seq_length=module.encoder.max_seq_length,
            data=data.report,
            hyperparameters=hyperparameters,
            base=evaluations.get("base"),
            tuned=evaluation,
            guard=guard,
            prompts=module.encoder.base.prompts,
        )
        export_encoder(module.encoder, target, card)

    module.cpu()
    export(folder.final_model, evaluations["last"])
    recommended = evaluations["best"]
    if weights is not None:
        module.encoder.load_state_dict(weights)
    elif is_worse(evaluations.get("base"), recommended):
        recommended = evaluations["base"]
        module.encoder.restore_base_weights()
    else:
        load_weights(module.encoder, read_checkpoint(best), best)
    rows = data.query_rows()
    ndcg = {
        name: values.numpy() for name, values in run_files.ndcg.items() if len(values) == len(rows)
    }
    write_by_question(folder.metrics_by_question, rows, ndcg)
    results = {**evaluations, "data": data.report, "files": by_file(rows, ndcg)}
    guard = ""
    if data.guard_jsonl is not None:
        results["guard"] = measure_guard(module, data, trainer)
        guard = guard_in_words(results["guard"])
    export(folder.best_model, recommended, guard)
    write_json(folder.metrics, results)
    run_files.end(
        training_completed=True,
        completed_at=timestamp(),
        final_model_path=str(folder.final_model),
    )
    report = outcome_in_words(evaluations, guard, folder)
    log.info("%s", report)


def outcome_in_words(evaluations: dict[str, dict[str, Any]], guard: str, folder: RunFolder) -> str:
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
        *([guard] if guard else []),
        "",
        f"best model:  {folder.best_model}{made_of}",
        f"last model:  {folder.final_model}",
        f"checkpoints: {folder.checkpoints}",
        f"curves:      tensorboard --logdir {folder.path / 'logs'}",
    ]
    return "\n".join(lines)
