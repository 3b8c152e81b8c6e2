"""What a test found, as a table and a page: a checkpoint's weights beside the base model's."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from embedft.data.datamodule import EmbeddingDataModule
from embedft.data.texts import query_rows
from embedft.evaluation.bootstrap import paired_bootstrap
from embedft.evaluation.verdict import comparison, verdict
from embedft.report.fit_report import write_report
from embedft.report.run_data import collect
from embedft.tools.log import RESULT
from embedft.training.module import EmbeddingModule

log = logging.getLogger(__name__)


def evaluate_and_report(
    trainer: Trainer,
    module: EmbeddingModule,
    data: EmbeddingDataModule,
    step: int | None,
    settings: dict[str, Any],
    path: Path | None,
) -> None:
    """Prints what a test or validation measured, and writes the page that was asked for.

    For a page the base model is measured after a checkpoint. Runs on all ranks.

    Args:
        trainer: After ``test`` or ``validate``.
        module: With the weights that were measured; afterwards with those of the base model.
        data: What they were measured on.
        step: Of the checkpoint; None where the base model itself was measured.
        settings: Shown as they are.
        path: The page; None for none.
    """
    if path is None:
        log.log(RESULT, "\n%s", comparison({"value": module.last_evaluation}))
        return
    evaluations: dict[str, dict[str, Any] | None] = {}
    query_results = {}

    def note(name: str, step: int) -> None:
        evaluations[name] = {"step": step, **module.last_evaluation}
        query_results[name] = module.last_query_results

    if step is None:
        note("base", 0)
    else:
        note("best", step)
        trainer.loggers = []  # they have what was asked for
        module.encoder.restore_base_weights()
        trainer.test(module, datamodule=data, verbose=False)
        note("base", 0)
        gain = paired_bootstrap(query_results["base"].ndcg, query_results["best"].ndcg)
        evaluations["best"] |= {"gain": gain._asdict(), "trained_on": data.n_trained_on}  # type: ignore[operator]
    if trainer.is_global_zero:
        report_data = collect(data, evaluations, query_results, query_rows(data), settings=settings)
        columns = {"base": evaluations["base"], "checkpoint": evaluations.get("best")}
        log.log(RESULT, "\n%s", comparison(columns))
        if sentence := verdict(*columns.values()):
            log.log(RESULT, "%s", sentence)
        questions = data.validation_jsonl or data.input_jsonl
        write_report(path, f"{module.encoder.base.name} on {questions}", report_data)
        log.log(RESULT, "report: %s", path)
