"""Lightning's ``EarlyStopping``, made exact under resume."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason


class StayStopped(Callback):
    """A resumed run has counted what the one before it had, and one that was stopped stays so.

    Stands before the ``EarlyStopping`` that it is about.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lets it look after an evaluation, before that is saved.

        At an epoch's end, Lightning's choice where one evaluation falls there, it would be too late
        for the checkpoint, and a resumed run looks there again without having measured.
        """
        for callback in _early_stopping(trainer):
            if callback._check_on_train_epoch_end is None:
                callback._check_on_train_epoch_end = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends at once what had stopped before it was saved."""
        reasons = [callback.stopping_reason for callback in _early_stopping(trainer)]
        if any(reason != EarlyStoppingReason.NOT_STOPPED for reason in reasons):
            trainer.should_stop = True


def _early_stopping(trainer: Trainer) -> list[EarlyStopping]:
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # untyped
    return [callback for callback in callbacks if isinstance(callback, EarlyStopping)]
