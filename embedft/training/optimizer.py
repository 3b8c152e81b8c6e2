"""AdamW: what it decays, and its rate over the run."""

from __future__ import annotations

import logging
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn

from embedft.training.schedule import WarmupSteps, linear_warmup_decay, warmup_length

log = logging.getLogger(__name__)


def adamw(
    encoder: nn.Module,
    learning_rate: float,
    weight_decay: float,
    warmup_steps: WarmupSteps,
    total: int,
    fused: bool,
) -> OptimizerLRScheduler:
    """AdamW with linear warm-up and decay.

    Args:
        encoder: Weights that need no gradient are left out.
        learning_rate: Peak rate.
        weight_decay: Decay of matrices.
        warmup_steps: Of rising rate; a warning is given if half of the run is not enough for them.
        total: Steps of the run.
        fused: All weights in one pass.
    """
    warmup = warmup_length(warmup_steps, total)
    log.info("schedule: %d steps, %d of them warm-up to %g", total, warmup, learning_rate)
    if warmup > total / 2:
        log.warning(
            "warmup_steps %d is longer than half of the %d steps of this run: the rate %s its "
            "peak; --warmup_steps auto would take %d",
            warmup,
            total,
            "never reaches" if warmup >= total else "has little time after",
            warmup_length("auto", total),
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
    """Sets rate and decay to those of now, where a checkpoint brought others.

    Args:
        optimizer: With the groups of :func:`parameter_groups`.
        scheduler: Its ``LambdaLR``.
        learning_rate: Peak rate.
        weight_decay: Decay of the first group.
    """
    decayed, plain = optimizer.param_groups
    decayed["weight_decay"] = weight_decay
    scheduler.base_lrs = [learning_rate] * 2
    for group, factor in zip((decayed, plain), scheduler.lr_lambdas, strict=True):
        group["initial_lr"] = learning_rate
        group["lr"] = learning_rate * factor(scheduler.last_epoch)
