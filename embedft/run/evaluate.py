"""``test`` and ``validate``: a table, and a page that compares a checkpoint with the base model."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from embedft.data.datamodule import EmbeddingDataModule
from embedft.data.texts import query_rows
from embedft.evaluation.query_results import QueryResults
from embedft.evaluation.significance import paired_gain
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
    page: Path | None,
) -> None:
    """Prints the metrics of a test or validation; writes a page if one was asked for.

    For a page the base model is evaluated after the checkpoint. Runs on all ranks.

    Args:
        trainer: After ``test`` or ``validate``.
        module: With the weights that were evaluated; after a page it has the base model's.
        data: What they were evaluated on.
        step: Of the checkpoint; None if the base model itself was evaluated.
        settings: Shown on the page as they are.
        page: HTML file to write; None for none.
    """
    if page is None:
        log.log(RESULT, "\n%s", comparison({"value": module.last_evaluation}))
        return
    evaluations: dict[str, dict[str, Any]] = {}
    results: dict[str, QueryResults] = {}

    def record(name: str, step: int) -> None:
        evaluations[name] = {"step": step, **module.last_evaluation}
        results[name] = module.last_query_results

    if step is None:
        record("base", 0)
    else:
        record("best", step)
        trainer.loggers = []  # they have the checkpoint's metrics
        module.encoder.restore_base_weights()
        trainer.test(module, datamodule=data, verbose=False)
        record("base", 0)
        gain = paired_gain(results["base"].ndcg, results["best"].ndcg, data.task.groups)
        evaluations["best"] |= {"gain": gain._asdict(), "trained_on": data.n_trained_on}
    if trainer.is_global_zero:
        report_data = collect(data, evaluations, results, query_rows(data), settings=settings)
        columns = {"base": evaluations["base"], "checkpoint": evaluations.get("best")}
        log.log(RESULT, "\n%s", comparison(columns))
        if sentence := verdict(*columns.values()):
            log.log(RESULT, "%s", sentence)
        questions = data.validation_jsonl or data.input_jsonl
        write_report(page, f"{module.encoder.base.name} on {questions}", report_data)
        log.log(RESULT, "report: %s", page)
