"""The page of a test: the weights of a checkpoint beside those of the base model."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from embedft.data.datamodule import EmbeddingDataModule
from embedft.evaluation.bootstrap import paired_bootstrap
from embedft.model_card import verdict
from embedft.report.evidence import gather
from embedft.report.fit_report import write_report
from embedft.training.module import EmbeddingModule

log = logging.getLogger(__name__)


def report_measured(
    trainer: Trainer,
    module: EmbeddingModule,
    data: EmbeddingDataModule,
    step: int | None,
    settings: dict[str, Any],
    path: Path,
) -> None:
    """Writes what a test or validation measured; the base model is measured after a checkpoint.

    Runs on all ranks.

    Args:
        trainer: After ``test`` or ``validate``.
        module: With the weights that were measured; afterwards with those of the base model.
        data: What they were measured on.
        step: Of the checkpoint; None where the base model itself was measured.
        settings: Shown as they are.
        path: The page.
    """
    evaluations: dict[str, dict[str, Any] | None] = {}
    findings = {}

    def note(name: str, step: int) -> None:
        evaluations[name] = {"step": step, **module.last_evaluation}
        findings[name] = module.last_findings

    if step is None:
        note("base", 0)
    else:
        note("best", step)
        trainer.loggers = []  # they have what was asked for
        module.encoder.restore_base_weights()
        trainer.test(module, datamodule=data, verbose=False)
        note("base", 0)
        gain = paired_bootstrap(findings["base"].ndcg, findings["best"].ndcg)
        evaluations["best"] |= {"gain": gain._asdict()}  # type: ignore[operator]
    if trainer.is_global_zero:
        evidence = gather(data, evaluations, findings, data.query_rows(), settings=settings)
        questions = data.validation_jsonl or data.input_jsonl
        write_report(path, f"{module.encoder.base.name} on {questions}", evidence)
        if sentence := verdict(evaluations["base"], evaluations.get("best")):
            log.info("%s", sentence)
        log.info("report: %s", path)
