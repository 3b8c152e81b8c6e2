"""The recipe: the settings of a run that is given no others.

They are the defaults of the command line and of the Python API, and what ``recommended.yaml`` says.
docs/quality.md shows what the recipe is worth, and what was tried and left out.
"""

from __future__ import annotations

from typing import Final, Literal

AUTO: Final = "auto"
WarmupSteps = int | Literal["auto"]

EPOCHS: Final = 3
BATCH_SIZE: Final = 64
LEARNING_RATE: Final = 1e-4
WARMUP_FRACTION: Final = 10
WARMUP_LIMIT: Final = 500


def warmup_length(warmup_steps: WarmupSteps, steps: int) -> int:
    """Warm-up steps of a run.

    Args:
        warmup_steps: A number is kept. ``auto`` is 1 step in ``WARMUP_FRACTION``, and at most
            ``WARMUP_LIMIT`` steps.
        steps: Optimiser steps of the run.
    """
    if warmup_steps == AUTO:
        return min(WARMUP_LIMIT, steps // WARMUP_FRACTION)
    return warmup_steps
