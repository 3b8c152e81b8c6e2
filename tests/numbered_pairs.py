"""Training pairs of numbers instead of texts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedft.data.pairs import Pairs


def dense(values: list[int]) -> NDArray[np.int64]:
    return np.unique(np.array(values, dtype=np.int64), return_inverse=True)[1]


def numbered_pairs(
    file: list[int], anchor: list[int] | None = None, positive: list[int] | None = None
) -> Pairs:
    """Pair i has text i as anchor and positive; equal numbers are equal texts."""
    ids = np.arange(len(file))
    return Pairs(
        anchor=ids,
        positive=ids,
        anchor_id=ids if anchor is None else dense(anchor),
        positive_id=ids if positive is None else dense(positive),
        anchor_hash=np.zeros(len(file), dtype=np.uint64),
        positive_hash=np.zeros(len(file), dtype=np.uint64),
        file_id=np.array(file),
        relevant=np.ones(len(file), dtype=np.bool_),
        labels=None,
        source_row=ids,
    )
