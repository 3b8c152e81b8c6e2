"""Which checkpoints a run keeps, and when it writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from embedft.training.run_files import RunFiles


class RunCheckpoints(Checkpoint):
    """A rolling ``last.ckpt``, and ``best.ckpt`` by nDCG@10.

    ``last`` is written every ``save_steps`` steps, at the step where the run stops, and after each
    evaluation, so that a resumed run never lacks what was measured. Lightning's ModelCheckpoint
    does none of the latter two, and would keep a second opinion on what is best.

    Args:
        folder: Where the files lie.
        run_files: Knows what is best.
        save_steps: Steps between two writes.
    """

    def __init__(self, folder: Path, run_files: RunFiles, save_steps: int) -> None:
        self.last, self.best = folder / "last.ckpt", folder / "best.ckpt"
        self.run_files = run_files
        self.save_steps = save_steps

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes up the count of steps."""
        self._step = trainer.global_step

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Saves ``last``, but never inside a window of accumulation: its gradients would be lost.

        A run that stops inside an epoch is saved here, where the position in the epoch is known.
        """
        step, earlier, self._step = trainer.global_step, self._step, trainer.global_step
        stops = trainer.should_stop or step == trainer.max_steps
        if step != earlier and (stops or step % self.save_steps == 0):
            trainer.save_checkpoint(self.last)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves both, now that something was measured."""
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        if self.run_files.evaluations["best"]["step"] == trainer.global_step:
            trainer.save_checkpoint(self.best)
        trainer.save_checkpoint(self.last)
