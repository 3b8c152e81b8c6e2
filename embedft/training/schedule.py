"""How many steps a run has, and the learning rate at each of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from typing import Literal

from lightning.pytorch import Trainer

from embedft.data.datamodule import EmbeddingDataModule

WarmupSteps = int | Literal["auto"]

GUIDE_WARMUP = 500


def total_steps(
    batches_per_epoch: Iterable[int],
    accumulate: int,
    max_steps: int = -1,
    limit_batches: int | float | None = None,
) -> int:
    """Optimiser steps of a whole run.

    Args:
        batches_per_epoch: Batches of each epoch; a last, incomplete window of accumulation steps.
        accumulate: Batches a step.
        max_steps: Steps at most; -1 for no limit.
        limit_batches: Lightning's ``limit_train_batches``: a count (int) or a share (float).
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
    """Optimiser steps of a whole fit, exactly; epochs are planned as they are asked for."""
    epochs = trainer.max_epochs if trainer.max_epochs is not None else 1000
    batches = (
        count
        for epoch in (itertools.count() if epochs < 0 else range(epochs))
        for count in data.batches_per_epoch([epoch])
    )
    return total_steps(
        batches,
        trainer.accumulate_grad_batches,
        trainer.max_steps,
        trainer.limit_train_batches,
    )


def warmup_length(warmup_steps: WarmupSteps, total: int) -> int:
    """Steps of rising rate: a number is kept, ``auto`` is the smaller of 500 and total / 10."""
    return min(GUIDE_WARMUP, total // 10) if warmup_steps == "auto" else warmup_steps


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
