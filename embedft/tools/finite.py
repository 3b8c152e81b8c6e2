"""A fast check for NaN and infinity."""

from __future__ import annotations

import torch
from torch import Tensor


def all_finite(values: Tensor) -> bool:
    """Whether no value is NaN or infinite.

    The sum of the values is checked first: it takes a tenth of the time, and is finite only if all
    values are. It may overflow, so each value is checked if it is not finite.
    """
    return bool(values.sum(dtype=torch.float32).isfinite()) or bool(values.isfinite().all())
