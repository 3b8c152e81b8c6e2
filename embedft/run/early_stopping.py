"""Lightning's ``EarlyStopping``, made exact under resume."""

from __future__ import annotations

import logging

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason

log = logging.getLogger(__name__)


class ResumableEarlyStopping(Callback):
    """Makes ``EarlyStopping`` survive a resume: its counter and its decision carry over.

    It must come before the ``EarlyStopping`` callbacks in the list.
    """

    def __init__(self) -> None:
        self._patience: list[int] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Moves the check to the end of an evaluation; notes the patience that was asked for.

        Lightning may choose the end of an epoch. That is after the checkpoint of the evaluation is
        saved, and a resumed run would check again without a new evaluation.
        """
        for callback in _early_stopping(trainer):
            if callback._check_on_train_epoch_end is None:
                callback._check_on_train_epoch_end = False
        self._patience = [callback.patience for callback in _early_stopping(trainer)]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops a resumed run that had been stopped early, unless the patience was raised."""
        for callback, patience in zip(_early_stopping(trainer), self._patience, strict=True):
            callback.patience = patience  # Lightning has restored the checkpoint's
            if callback.stopping_reason == EarlyStoppingReason.NOT_STOPPED:
                continue
            exhausted = callback.stopping_reason == EarlyStoppingReason.PATIENCE_EXHAUSTED
            if exhausted and callback.wait_count < patience:
                callback.stopping_reason = EarlyStoppingReason.NOT_STOPPED
                continue
            trainer.should_stop = True
            log.warning(
                "this run had been stopped early; to continue, raise EarlyStopping's patience or "
                "remove it"
            )


def _early_stopping(trainer: Trainer) -> list[EarlyStopping]:
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # untyped
    return [callback for callback in callbacks if isinstance(callback, EarlyStopping)]
