"""What TensorBoard shows first: it sorts by name, gain/ then train/ then val/ then verdict/."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger

LAYOUT = {
    "quality": {
        "gain of nDCG@10 over the base model, with its 95% interval": [
            "Margin",
            ["gain/ndcg@10", "gain/ndcg@10_low", "gain/ndcg@10_high"],
        ],
        "held-out questions": ["Multiline", ["val/ndcg@10", "val/mrr@10", "val/recall@10"]],
    },
    "training": {
        "loss, in training and held out": ["Multiline", ["train/loss", "val/loss"]],
        "learning rate": ["Multiline", ["train/learning_rate"]],
    },
}
"""The CUSTOM SCALARS tab: a title, then a chart's title, then its kind and its curves."""


class Board(TensorBoardLogger):
    """Without the curves that Lightning adds on top of the others: ``epoch`` and ``hp_metric``.

    Args:
        output_dir: Folder of the run; the files lie in ``logs``, also those of a resumed run.
    """

    def __init__(self, output_dir: str) -> None:
        super().__init__(output_dir, name="logs", version="", default_hp_metric=False)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Logs all but the epoch."""
        kept = {name: value for name, value in metrics.items() if name != "epoch"}
        super().log_metrics(kept, step)


def lay_out(loggers: Sequence[Logger]) -> None:
    """Gives the layout to each TensorBoard of a run that begins."""
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            writer: Any = logger.experiment
            writer.add_custom_scalars(LAYOUT)
