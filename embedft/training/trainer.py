"""Lightning's Trainer, with ``precision: auto``."""

from __future__ import annotations

import logging
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar, TQDMProgressBar
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from embedft.errors import InputError, check_at_least
from embedft.recipe import AUTO
from embedft.tools.device import choose_precision, chooses_cuda, keep_freed_memory
from embedft.tools.progress import shows_bars
from embedft.training.callbacks import check_callbacks
from embedft.training.limits import check_end

log = logging.getLogger(__name__)


class EmbedftTrainer(Trainer):
    """A Trainer that chooses its precision, and shows progress bars only on a terminal.

    Args:
        enable_progress_bar: None shows bars only if standard error is a terminal.
        precision: Any precision of Lightning's, or ``auto``: ``bf16-mixed`` if the hardware
            computes bf16 natively, else ``32-true``.
    """

    def __init__(
        self,
        *args: Any,
        precision: int | str | None = AUTO,
        enable_progress_bar: bool | None = None,
        **kwargs: Any,
    ) -> None:
        accelerator = str(kwargs.get("accelerator", AUTO))
        if enable_progress_bar is None:
            enable_progress_bar = shows_bars()
        callbacks = kwargs.get("callbacks") or []
        callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
        check_callbacks(callbacks)
        check_at_least(0, gradient_clip_val=kwargs.get("gradient_clip_val"))
        has_bar = any(isinstance(callback, ProgressBar) for callback in callbacks)
        if enable_progress_bar and not has_bar:
            on_gpu = chooses_cuda(accelerator)
            bar = GpuProgressBar(refresh_rate=10) if on_gpu else RichBar()
            kwargs["callbacks"] = [*callbacks, bar]
        self.asked_callbacks = [type(callback).__name__ for callback in callbacks]
        """The user's callbacks in words, for the settings in checkpoints."""
        super().__init__(
            *args,
            precision=choose_precision(precision, accelerator),  # type: ignore[arg-type]
            enable_progress_bar=enable_progress_bar,
            **kwargs,
        )
        if getattr(self.strategy, "_start_method", "popen") != "popen":
            raise InputError(
                "strategy: spawned or forked processes can't hand their metrics back; use ddp, "
                "which starts the command once for each device"
            )
        if type(self.strategy) not in (SingleDeviceStrategy, DDPStrategy):
            raise InputError(
                f"strategy: {type(self.strategy).__name__} is not supported, because gradient "
                "norm, checkpoints and export need whole weights on each device and gradients "
                "averaged over ranks; use ddp (see docs/reliability.md)"
            )
        check_end(self.max_epochs, self.max_steps)
        if self.strategy.root_device.type == "cpu":
            keep_freed_memory()


class _BaseModelDescription:
    """Lightning's sanity check evaluates the base model here, so the bar says that."""

    @property
    def sanity_check_description(self) -> str:
        """Text before the first bar."""
        return "Evaluating the base model"


class RichBar(_BaseModelDescription, RichProgressBar):
    """Lightning's bar, the default where rich is installed."""


class GpuProgressBar(_BaseModelDescription, TQDMProgressBar):
    """Lightning's other bar; reads the loss, which waits for the GPU, only when it is shown."""

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Metrics after the bar."""
        metrics = super().get_metrics(trainer, pl_module)
        loss = trainer.callback_metrics.get("train/loss")
        return metrics if loss is None else metrics | {"train/loss": float(loss)}
