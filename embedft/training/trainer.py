"""Lightning's Trainer, with ``precision: auto`` and checkpoints written in one piece."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from embedft.errors import InputError, RunFailedError
from embedft.files import replacing_file
from embedft.training.allocator import keep_freed_memory

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
        try:
            with replacing_file(Path(path)) as temporary:
                torch.save(checkpoint, temporary)
        except (OSError, RuntimeError) as error:  # torch's writer raises either
            reason = str(error).splitlines()[0]
            raise RunFailedError(
                f"{path}: can't be written, is there space left? ({reason}); the one before "
                "is whole: make space and go on with --ckpt_path last"
            ) from None


class EmbedftTrainer(Trainer):
    """A Trainer that picks its precision.

    Args:
        precision: Any precision of Lightning's, or ``auto``: ``bf16-mixed`` where the hardware
            computes bf16 natively, else ``32-true``.
    """

    def __init__(self, *args: Any, precision: int | str | None = "auto", **kwargs: Any) -> None:
        if precision == "auto":
            native = has_native_bf16(str(kwargs.get("accelerator", "auto")))
            precision = "bf16-mixed" if native else "32-true"
            log.info("precision auto: %s", precision)
        super().__init__(*args, precision=precision, **kwargs)  # type: ignore[arg-type]
        if type(self.strategy) not in (SingleDeviceStrategy, DDPStrategy):
            raise InputError(
                f"strategy: {type(self.strategy).__name__} is not supported: gradient norm, "
                "checkpoints and export need whole weights on each device, and gradients averaged "
                "over ranks; use ddp (docs/reliability.md says more)"
            )
        if self.max_epochs is not None and self.max_epochs < 0 and self.max_steps < 0:
            raise InputError("epochs: give --epochs or --trainer.max_steps: the rate decays to it")
        if self.strategy.root_device.type == "cpu":
            keep_freed_memory()


def has_native_bf16(accelerator: str) -> bool:
    """Whether the device that Lightning will choose multiplies bf16 in hardware."""
    if accelerator in {"auto", "gpu", "cuda"} and torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if accelerator in {"auto", "gpu", "mps"} and torch.backends.mps.is_available():
        return False
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
