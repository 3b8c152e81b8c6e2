"""AdamW: what it decays, and its learning rate over the run."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn

from embedft.data.datamodule import EmbeddingDataModule
from embedft.recipe import AUTO, WarmupSteps, warmup_length

log = logging.getLogger(__name__)


def adamw(
    encoder: nn.Module,
    learning_rate: float,
    warmup_steps: WarmupSteps,
    weight_decay: float,
    total: int,
    fused: bool,
) -> OptimizerLRScheduler:
    """AdamW with linear warm-up and decay.

    Args:
        encoder: Weights that need no gradient are left out.
        learning_rate: The peak.
        warmup_steps: A warning is logged if they are more than half of the run.
        weight_decay: Weight decay of matrices.
        total: Optimiser steps of the run.
        fused: Updates all weights in one pass.
    """
    warmup = warmup_length(warmup_steps, total)
    log.info("schedule: %d steps, %d of them warm-up to %g", total, warmup, learning_rate)
    if warmup > total / 2:
        log.warning(
            "warmup_steps %d is longer than half of the %d steps of this run: the learning rate "
            "%s its peak; --warmup_steps auto would take %d",
            warmup,
            total,
            "never reaches" if warmup >= total else "has little time after",
            warmup_length(AUTO, total),
        )
    groups = parameter_groups(encoder, weight_decay)
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, fused=fused)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, linear_warmup_decay(warmup, total))
    return {
        "optimizer": optimizer,
        "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
    }


def parameter_groups(encoder: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: matrices with weight decay; biases and norms (one-dimensional) without."""
    parameters = [p for p in encoder.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]


def set_rate(
    optimizer: torch.optim.Optimizer, scheduler: Any, learning_rate: float, weight_decay: float
) -> None:
    """Sets the new learning rate and weight decay after a checkpoint restored the old ones.

    Args:
        optimizer: With the groups of :func:`parameter_groups`.
        scheduler: Its ``LambdaLR``.
        learning_rate: Peak learning rate.
        weight_decay: Weight decay of the first group.
    """
    decayed, plain = optimizer.param_groups
    decayed["weight_decay"] = weight_decay
    scheduler.base_lrs = [learning_rate] * 2
    for group, factor in zip((decayed, plain), scheduler.lr_lambdas, strict=True):
        group["initial_lr"] = learning_rate
        group["lr"] = learning_rate * factor(scheduler.last_epoch)


def total_steps(
    batches_per_epoch: Iterable[int],
    accumulate: int,
    max_steps: int = -1,
    limit_batches: int | float | None = None,
) -> int:
    """Optimiser steps of a whole run.

    Args:
        batches_per_epoch: Batches of each epoch; an incomplete last accumulation window counts as
            a step.
        accumulate: Batches per step.
        max_steps: Maximum number of steps; -1 for no limit.
        limit_batches: Lightning's ``limit_train_batches``: a count (int) or a fraction (float).
    """
    total = 0
    for batches in batches_per_epoch:
        if isinstance(limit_batches, int):
            batches = min(batches, limit_batches)
        elif limit_batches is not None:
            batches = int(batches * limit_batches)
        total += math.ceil(batches / accumulate)
        if 0 <= max_steps <= total:
            return max_steps
    return total


def steps_of_run(trainer: Trainer, data: EmbeddingDataModule) -> int:
    """Optimiser steps of a whole fit, exactly; each epoch is planned to count its batches."""
    epochs = trainer.max_epochs if trainer.max_epochs is not None else 1000
    batches = (
        len(data.train_batches(epoch))
        for epoch in (itertools.count() if epochs < 0 else range(epochs))
    )
    return total_steps(
        batches,
        trainer.accumulate_grad_batches,
        trainer.max_steps,
        trainer.limit_train_batches,
    )


def linear_warmup_decay(warmup: int, total: int) -> Callable[[int], float]:
    """The factor on the peak rate, in [0, 1], as a function of the step.

    Rises linearly from 0 over ``warmup`` steps, then falls linearly to 0 at ``total``: the
    ``linear`` schedule of transformers' trainer.
    """

    def factor(step: int) -> float:
        if step < warmup:
            return step / max(1, warmup)
        return max(0.0, (total - step) / max(1, total - warmup))

    return factor
