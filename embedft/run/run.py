"""What belongs together from the end of a training to its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from embedft.data.datamodule import EmbeddingDataModule
from embedft.run.folder import RunFolder
from embedft.run.metrics_log import MetricsLog
from embedft.training.module import EmbeddingModule


@dataclass(frozen=True, slots=True)
class Run:
    """A fit and its files.

    Attributes:
        trainer: After ``fit``.
        module: The model in training.
        data: The data of the fit.
        folder: Where the files of the run are.
        metrics_log: Has the evaluations.
        hyperparameters: Names and values for model cards and report.
        report: File of the report.
    """

    trainer: Trainer
    module: EmbeddingModule
    data: EmbeddingDataModule
    folder: RunFolder
    metrics_log: MetricsLog
    hyperparameters: dict[str, Any]
    report: Path

    @property
    def evaluations(self) -> dict[str, dict[str, Any]]:
        """The metrics of ``base``, ``last`` and ``best``."""
        return self.metrics_log.evaluations.metrics
