"""Which checkpoints a run keeps, and when it writes them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from embedft.errors import RunFailedError
from embedft.run.metrics_log import MetricsLog
from embedft.tools.files import numbered_files, replacing_file
from embedft.tools.text import error_line


class RunCheckpoints(Checkpoint):
    """A rolling ``last.ckpt`` with some earlier ``step-N.ckpt``, and ``best.ckpt``.

    ``last`` is written every ``save_steps`` steps, at the step where the run stops, and after each
    evaluation, so that a resumed run never lacks what was measured. Lightning's ModelCheckpoint
    does none of the latter two, and would keep a second opinion on what is best.

    Never inside a window of accumulation, whose gradients would be lost; nor between a step and the
    evaluation that follows it, which a resumed run would leave out.

    Args:
        folder: Where the files lie.
        metrics_log: Knows what is best.
        save_steps: Steps between two writes.
        save_total_limit: How many of ``last.ckpt`` and ``step-N.ckpt`` are kept, at least 1.
    """

    def __init__(
        self, folder: Path, metrics_log: MetricsLog, save_steps: int, save_total_limit: int
    ) -> None:
        self.last, self.best = folder / "last.ckpt", folder / "best.ckpt"
        self.metrics_log = metrics_log
        self.save_steps = save_steps
        self.save_total_limit = save_total_limit
        self.at_step_end = True
        """Whether the last batch ended a step, so that a save loses nothing."""
        self._due = False
        self.saved_step: int | None = None
        """The step of the ``last`` that this run has written; None before the first."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes up the count of steps."""
        self._step = trainer.global_step
        self.saved_step = None

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Saves ``last``.

        A run that stops inside an epoch is saved here, where the position in the epoch is known.
        """
        step, earlier, self._step = trainer.global_step, self._step, trainer.global_step
        self.at_step_end = step != earlier
        stops = trainer.should_stop or step == trainer.max_steps
        if step != earlier and step % self.save_steps == 0:
            self._due = True
        if self.at_step_end and (stops or self._due) and not evaluation_follows(trainer, batch_idx):
            self.save_last(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves both, now that something was measured."""
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        best = self.metrics_log.evaluations["best"]["step"] == trainer.global_step
        if best:
            trainer.save_checkpoint(self.best)
        self._due = True
        if self.at_step_end:
            self.save_last(trainer, same_as=self.best if best else None)

    def save_last(self, trainer: Trainer, same_as: Path | None = None) -> None:
        """Saves ``last``; the earlier one becomes ``step-N``.

        Args:
            trainer: In ``fit``.
            same_as: A checkpoint of this very state, to copy: a file of its own, as it takes the
                place of ``last`` where that gets damaged.
        """
        if trainer.is_global_zero:
            self._keep_earlier(trainer.global_step)
        if same_as is None:
            trainer.save_checkpoint(self.last)
        else:
            if trainer.is_global_zero:
                copy_checkpoint(same_as, self.last)
            trainer.strategy.barrier()
        self._due, self.saved_step = False, trainer.global_step

    def _keep_earlier(self, step: int) -> None:
        if self.saved_step not in (None, step) and self.save_total_limit > 1:
            kept = self.last.with_name(f"step-{self.saved_step}.ckpt")
            kept.unlink(missing_ok=True)
            try:
                os.link(self.last, kept)  # at no time is there no last.ckpt
            except OSError:  # a file system without links
                shutil.copyfile(self.last, kept)
        steps = numbered_files(self.last.parent, "step-", ".ckpt")
        for old in sorted(steps)[: max(0, len(steps) - self.save_total_limit + 1)]:
            steps[old].unlink()


def evaluation_follows(trainer: Trainer, batch_idx: int) -> bool:
    """Whether Lightning evaluates right after this training batch."""
    every = trainer.check_val_every_n_epoch
    if every is not None and (trainer.current_epoch + 1) % every:
        return False
    if trainer.val_check_batch in (None, float("inf")):
        return False
    batches = batch_idx if every is not None else trainer.fit_loop.total_batch_idx
    return (batches + 1) % trainer.val_check_batch == 0


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the final name, syncs, renames: a reader never sees part of a checkpoint."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Saves a checkpoint; the earlier file of that name stays whole until the end.

        Raises:
            RunFailedError: It can't be written, for want of space for example.
        """
        with _written_in_one_piece(Path(path)) as temporary:
            torch.save(checkpoint, temporary)


def copy_checkpoint(source: Path, target: Path) -> None:
    """Saves under another name what was saved just now, in a quarter of the time.

    Raises:
        RunFailedError: It can't be written, for want of space for example.
    """
    with _written_in_one_piece(target) as temporary:
        shutil.copyfile(source, temporary)


@contextmanager
def _written_in_one_piece(path: Path) -> Iterator[Path]:
    try:
        with replacing_file(path) as temporary:
            yield temporary
    except (OSError, RuntimeError) as error:  # torch's writer raises either
        reason = error_line(error, first_line=True)
        raise RunFailedError(
            f"{path}: can't be written, is there space left? ({reason}); the one before "
            "is whole: make space and go on with --ckpt_path last"
        ) from None
