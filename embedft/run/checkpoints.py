"""Which checkpoints a run keeps, and when it writes them."""

from __future__ import annotations

import copy
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from embedft.encoder.checkpoint import load_checkpoint, read_checkpoint
from embedft.errors import EmbedftError, InputError, RunFailedError
from embedft.run.evaluations import EVALUATIONS_KEY, RunEvaluations
from embedft.run.folder import RunFolder
from embedft.tools.files import replacing_file, unwritable
from embedft.tools.text import error_line

log = logging.getLogger(__name__)


class RunCheckpoints(Checkpoint):
    """Keeps ``last.ckpt``, a few earlier ones as ``step-N.ckpt``, and ``best.ckpt``.

    ``last`` is written every ``save_steps`` steps, at the step at which the run stops, and after
    each evaluation, so that a resumed run has its metrics. Lightning's ModelCheckpoint does neither
    of the latter two, and would choose a best checkpoint of its own.

    Nothing is saved while gradients are accumulated, because they would be lost. Nothing is saved
    between a step and the evaluation that follows it, because a resumed run would skip that.

    Args:
        folder: Of the run.
        evaluations: Say which weights are best.
        save_steps: Steps between two writes of ``last``.
        save_total_limit: How many of ``last.ckpt`` and ``step-N.ckpt`` are kept, at least 1.
    """

    def __init__(
        self,
        folder: RunFolder,
        evaluations: RunEvaluations,
        save_steps: int,
        save_total_limit: int,
    ) -> None:
        self.folder, self.evaluations = folder, evaluations
        self.save_steps = save_steps
        self.save_total_limit = save_total_limit
        self.at_step_end = True
        """Whether the last batch ended a step, so that a save loses nothing."""
        self._due = False
        self.saved_step: int | None = None
        """The step of the ``last`` that this process has written; None before the first."""

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Makes ``best.ckpt`` what a run that goes back to an earlier checkpoint calls its best."""
        best = _best_of(checkpoint)
        path = self.folder.best_checkpoint
        if best is None or is_best_checkpoint(path, best) or trainer.ckpt_path is None:
            return
        if trainer.is_global_zero:
            for source in (Path(trainer.ckpt_path), self.folder.step_checkpoint(best["step"])):
                if is_best_checkpoint(source, best):
                    copy_checkpoint(source, path)
                    log.warning("%s: was of another step; now of step %d", path, best["step"])
                    break
        trainer.strategy.barrier()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Counts steps from the current one."""
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
        """Saves ``last`` if it is due or the run stops.

        A run that stops inside an epoch is saved here, because the position in the epoch is known.
        """
        step, earlier, self._step = trainer.global_step, self._step, trainer.global_step
        self.at_step_end = step != earlier
        stops = trainer.should_stop or step == trainer.max_steps
        if step != earlier and step % self.save_steps == 0:
            self._due = True
        if self.at_step_end and (stops or self._due) and not evaluation_follows(trainer, batch_idx):
            self.save_last(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves ``last``, and ``best`` if these weights are the best."""
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        is_best = self.evaluations.metrics["best"]["step"] == trainer.global_step
        if is_best:
            trainer.save_checkpoint(self.folder.best_checkpoint)
        self._due = True
        if self.at_step_end:
            self.save_last(trainer, same_as=self.folder.best_checkpoint if is_best else None)

    def save_last(self, trainer: Trainer, same_as: Path | None = None) -> None:
        """Saves ``last``; the earlier one becomes ``step-N``.

        Args:
            trainer: In ``fit``.
            same_as: A checkpoint of this very state, to copy. It is copied, not linked, because it
                replaces a damaged ``last``.
        """
        last = self.folder.last_checkpoint
        if trainer.is_global_zero:
            self._keep_earlier(trainer.global_step)
        if same_as is None:
            trainer.save_checkpoint(last)
        else:
            if trainer.is_global_zero:
                copy_checkpoint(same_as, last)
            trainer.strategy.barrier()
        self._due, self.saved_step = False, trainer.global_step

    def _keep_earlier(self, step: int) -> None:
        if self.saved_step is not None and self.saved_step != step and self.save_total_limit > 1:
            earlier = self.folder.step_checkpoint(self.saved_step)
            earlier.unlink(missing_ok=True)
            try:
                os.link(self.folder.last_checkpoint, earlier)  # last.ckpt exists at all times
            except OSError:  # a file system without links
                shutil.copyfile(self.folder.last_checkpoint, earlier)
        # By age: a run that went back to an earlier checkpoint has older ones of later steps.
        kept = sorted(self.folder.step_checkpoints().values(), key=_age)
        for old in kept[: max(0, len(kept) - self.save_total_limit + 1)]:
            old.unlink()


def is_best_checkpoint(path: Path, best: dict[str, Any]) -> bool:
    """Whether a file is the checkpoint of an evaluation that is the best of its run.

    Args:
        path: Of a checkpoint; it may be missing or damaged.
        best: The evaluation.
    """
    try:
        checkpoint = read_checkpoint(path)
    except InputError:
        return False
    saved = _best_of(checkpoint)
    # The gain depends on the base model, and has an interval, so it is not compared.
    return checkpoint["global_step"] == best["step"] and (
        saved is None or {**saved, "gain": None} == {**best, "gain": None}
    )


def _best_of(checkpoint: dict[str, Any]) -> dict[str, Any] | None:
    evaluations = checkpoint.get("callbacks", {}).get(EVALUATIONS_KEY, {}).get("evaluations", {})
    best: dict[str, Any] | None = evaluations.get("best")
    return best


def _age(path: Path) -> tuple[int, str]:
    return path.stat().st_mtime_ns, path.name


def evaluation_follows(trainer: Trainer, batch_idx: int) -> bool:
    """Whether Lightning evaluates right after this training batch."""
    every = trainer.check_val_every_n_epoch
    if every is not None and (trainer.current_epoch + 1) % every:
        return False
    if trainer.val_check_batch in (None, float("inf")):
        return False
    batches = batch_idx if every is not None else trainer.fit_loop.total_batch_idx
    return (batches + 1) % trainer.val_check_batch == 0


def restoring_error(trainer: Trainer, path: str, error: BaseException) -> InputError | None:
    """The error of a checkpoint that Lightning could not restore; None for any other error.

    Args:
        trainer: Raised the error.
        path: The checkpoint that it was given.
        error: Any exception.
    """
    restores = bool(trainer._checkpoint_connector._loaded_checkpoint)  # emptied once all is done
    if not restores or isinstance(error, EmbedftError) or not isinstance(error, Exception):
        return None
    return InputError(f"{path}: can't be restored: {error_line(error)}; use another checkpoint")


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes under a temporary name, syncs, renames: nobody reads half a checkpoint.

    What Lightning loads is read as :func:`read_checkpoint` reads it.
    """

    def load_checkpoint(
        self,
        path: str | os.PathLike[str],
        map_location: Any = None,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Loads a checkpoint into memory of its own; the arguments of Lightning are not used."""
        checkpoint = copy.deepcopy(load_checkpoint(Path(path)))
        checkpoint.setdefault("pytorch-lightning_version", lightning.__version__)
        return checkpoint

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Saves a checkpoint; until then the earlier file of that name stays intact.

        Raises:
            RunFailedError: It can't be written, for example because the disk is full.
        """
        with _replacing_checkpoint(Path(path)) as temporary:
            torch.save(checkpoint, temporary)


def copy_checkpoint(source: Path, target: Path) -> None:
    """Saves a checkpoint under another name, in a quarter of the time of saving it again.

    Raises:
        RunFailedError: It can't be written, for example because the disk is full.
    """
    with _replacing_checkpoint(target) as temporary:
        shutil.copyfile(source, temporary)


@contextmanager
def _replacing_checkpoint(path: Path) -> Iterator[Path]:
    try:
        with replacing_file(path) as temporary:
            yield temporary
    except (OSError, RuntimeError, RunFailedError) as error:  # torch's writer raises the first two
        failed = error if isinstance(error, RunFailedError) else unwritable(path, error)
        raise RunFailedError(
            f"{failed}; the earlier checkpoint is intact: free some space and resume with "
            "--ckpt_path last"
        ) from None
