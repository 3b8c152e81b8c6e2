"""Lightning's Trainer, with ``precision: auto`` and checkpoints written in one piece."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar, TQDMProgressBar
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from embedft.errors import InputError, RunFailedError
from embedft.files import replacing_file
from embedft.progress import shows_bars
from embedft.training.allocator import keep_freed_memory
from embedft.training.ranges import check_end

log = logging.getLogger(__name__)


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
        reason = str(error).splitlines()[0]
        raise RunFailedError(
            f"{path}: can't be written, is there space left? ({reason}); the one before "
            "is whole: make space and go on with --ckpt_path last"
        ) from None


class EmbedftTrainer(Trainer):
    """A Trainer that picks its precision, and shows its bars on a terminal alone.

    Args:
        max_epochs: Lightning's, or ``auto``: 3, and 2 from 10,000 training pairs on.
        enable_progress_bar: None shows bars where somebody would see them.
        precision: Any precision of Lightning's, or ``auto``: ``bf16-mixed`` where the hardware
            computes bf16 natively, else ``32-true``.
    """

    def __init__(
        self,
        *args: Any,
        max_epochs: int | Literal["auto"] | None = None,
        precision: int | str | None = "auto",
        enable_progress_bar: bool | None = None,
        **kwargs: Any,
    ) -> None:
        if precision == "auto":
            native = has_native_bf16(str(kwargs.get("accelerator", "auto")))
            precision = "bf16-mixed" if native else "32-true"
            log.info("precision auto: %s", precision)
        if enable_progress_bar is None:
            enable_progress_bar = shows_bars()
        if enable_progress_bar:
            callbacks = kwargs.get("callbacks") or []
            callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
            if not any(isinstance(callback, ProgressBar) for callback in callbacks):
                on_gpu = chooses_cuda(str(kwargs.get("accelerator", "auto")))
                bar = GpuProgressBar(refresh_rate=10) if on_gpu else RichBar()
                kwargs["callbacks"] = [*callbacks, bar]
        self.auto_epochs = max_epochs == "auto"
        """Whether the training pairs, once they are known, choose the epochs."""
        super().__init__(
            *args,
            max_epochs=1 if max_epochs == "auto" else max_epochs,
            precision=precision,  # type: ignore[arg-type]
            enable_progress_bar=enable_progress_bar,
            **kwargs,
        )
        if getattr(self.strategy, "_start_method", "popen") != "popen":
            raise InputError(
                "strategy: processes that are spawned or forked keep what they measure to "
                "themselves; use ddp, which starts the command anew on each device"
            )
        if type(self.strategy) not in (SingleDeviceStrategy, DDPStrategy):
            raise InputError(
                f"strategy: {type(self.strategy).__name__} is not supported: gradient norm, "
                "checkpoints and export need whole weights on each device, and gradients averaged "
                "over ranks; use ddp (docs/reliability.md says more)"
            )
        check_end(self.max_epochs, self.max_steps)
        if self.strategy.root_device.type == "cpu":
            keep_freed_memory()

    def check(
        self,
        model: LightningModule,
        datamodule: LightningDataModule,
        html: str | None = None,
        ckpt_path: str | None = None,
        weights_only: bool | None = None,
    ) -> None:
        """Says what a fit with these settings would see, and what to change.

        Args:
            model: As for ``fit``.
            datamodule: As for ``fit``.
            html: A page to write, with charts; nothing else is written.
            ckpt_path: Not used; taken so that the config file of a fit can be checked.
            weights_only: Likewise.
        """
        from embedft.checking import check  # the charts' library is large

        check(self, model, datamodule, html)  # type: ignore[arg-type]  # the command line's own


class _SaysWhatIsMeasured:
    """What Lightning calls a sanity check measures the base model here."""

    @property
    def sanity_check_description(self) -> str:
        """What stands before the first bar."""
        return "Measuring the base model"


class RichBar(_SaysWhatIsMeasured, RichProgressBar):
    """Lightning's bar, the default where rich is installed."""


class GpuProgressBar(_SaysWhatIsMeasured, TQDMProgressBar):
    """Lightning's other bar; reads the loss, which waits for the GPU, only where it is shown."""

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """What stands behind the bar."""
        metrics = super().get_metrics(trainer, pl_module)
        loss = trainer.callback_metrics.get("train/loss")
        return metrics if loss is None else metrics | {"train/loss": float(loss)}


def has_native_bf16(accelerator: str) -> bool:
    """Whether the device that Lightning will choose multiplies bf16 in hardware."""
    if chooses_cuda(accelerator):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if accelerator in {"auto", "gpu", "mps"} and torch.backends.mps.is_available():
        return False
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def chooses_cuda(accelerator: str) -> bool:
    """Whether Lightning will choose an NVIDIA or AMD GPU."""
    return accelerator in {"auto", "gpu", "cuda"} and torch.cuda.is_available()
