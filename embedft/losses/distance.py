"""Distances between paired rows of two tensors.

Shape suffixes: P pairs, D embedding.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional

DistanceMetric = Literal["cosine", "euclidean", "manhattan"]


def check_pairs(first_PD: Tensor, second_PD: Tensor, labels_P: Tensor) -> None:
    """Raises ValueError unless both tensors have one shape, (P, D), and each row has a label."""
    if first_PD.shape != second_PD.shape or first_PD.dim() != 2:
        raise ValueError(
            f"pairs must be two (P, D) tensors of one shape, got {tuple(first_PD.shape)} and "
            f"{tuple(second_PD.shape)}"
        )
    if labels_P.shape != first_PD.shape[:1]:
        raise ValueError(
            f"labels must be ({len(first_PD)},), one per pair, got {tuple(labels_P.shape)}"
        )


def pairwise_distance(first_PD: Tensor, second_PD: Tensor, metric: DistanceMetric) -> Tensor:
    """Distance of each pair of rows.

    - ``cosine``: 1 - cos(a, b), in [0, 2]; 1 if a vector is zero
    - ``euclidean``: ||a - b + 1e-6||_2
    - ``manhattan``: ||a - b + 1e-6||_1

    :func:`torch.nn.functional.pairwise_distance` adds the 1e-6; it gives equal vectors a gradient.

    Returns:
        (P,) distances.
    """
    if metric == "cosine":
        return 1 - functional.cosine_similarity(first_PD, second_PD)
    return functional.pairwise_distance(first_PD, second_PD, p=2 if metric == "euclidean" else 1)
