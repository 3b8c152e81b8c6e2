"""Lightning's ``EarlyStopping``, made exact under resume."""

from __future__ import annotations

import logging

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason

from embedft.errors import InputError
from embedft.run.metrics_log import MetricsLog
from embedft.tools.text import did_you_mean

log = logging.getLogger(__name__)


class ResumableEarlyStopping(Callback):
    """A resumed run has counted what the one before it had, and one that was stopped stays so.

    Stands before the ``EarlyStopping`` that it is about.

    Args:
        metrics_log: Knows what is measured.
    """

    def __init__(self, metrics_log: MetricsLog) -> None:
        self.metrics_log = metrics_log
        self._patience: list[int] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lets it look after an evaluation, before that is saved; notes what was asked for.

        At an epoch's end, Lightning's choice where one evaluation falls there, it would be too late
        for the checkpoint, and a resumed run looks there again without having measured.
        """
        for callback in _early_stopping(trainer):
            if callback._check_on_train_epoch_end is None:
                callback._check_on_train_epoch_end = False
        self._patience = [callback.patience for callback in _early_stopping(trainer)]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends at once what had stopped before it was saved, unless there is more patience now.

        Raises:
            InputError: What it looks at is not measured.
        """
        evaluations = self.metrics_log.evaluations.values()
        names = {name for evaluation in evaluations for name in evaluation}
        measured = [f"val/{name}" for name in sorted(names - {"step", "epoch", "gain"})]
        for callback, patience in zip(_early_stopping(trainer), self._patience, strict=True):
            name = callback.monitor
            if measured and name not in measured and not name.startswith("train/"):
                raise InputError(
                    f"EarlyStopping: monitor {name} is not measured{did_you_mean(name, measured)}"
                )
            callback.patience = patience  # the checkpoint's was put in its place
            if callback.stopping_reason == EarlyStoppingReason.NOT_STOPPED:
                continue
            exhausted = callback.stopping_reason == EarlyStoppingReason.PATIENCE_EXHAUSTED
            if exhausted and callback.wait_count < patience:
                callback.stopping_reason = EarlyStoppingReason.NOT_STOPPED
                continue
            trainer.should_stop = True
            log.warning("EarlyStopping had ended the run; it goes on with more patience or without")


def _early_stopping(trainer: Trainer) -> list[EarlyStopping]:
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # untyped
    return [callback for callback in callbacks if isinstance(callback, EarlyStopping)]
