"""Inputs of the loss tests, and the comparison with sentence-transformers' losses in float64."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from sentence_transformers.sentence_transformer.losses import SiameseDistanceMetric
from torch import Tensor

from embedft.losses import Loss

SENTENCE_TRANSFORMERS_METRIC = {
    "cosine": SiameseDistanceMetric.COSINE_DISTANCE,
    "euclidean": SiameseDistanceMetric.EUCLIDEAN,
    "manhattan": SiameseDistanceMetric.MANHATTAN,
}

KINDS = ("random", "zero", "duplicates", "opposite", "tiny", "huge", "one-hot")

LABELS: dict[str, Callable[[int], Tensor]] = {
    "mixed": lambda rows: torch.arange(rows) % 2,
    "all positive": lambda rows: torch.ones(rows, dtype=torch.int64),
    "all negative": lambda rows: torch.zeros(rows, dtype=torch.int64),
    "one positive": lambda rows: (torch.arange(rows) == 0).long(),
    "one negative": lambda rows: (torch.arange(rows) != 0).long(),
    "float": lambda rows: (torch.arange(rows) % 2).float(),
    "graded": lambda rows: torch.linspace(0, 1, rows),
}

pair_cases = pytest.mark.parametrize(
    ("kind", "labels", "rows"), list(itertools.product(KINDS, LABELS, (1, 2, 17)))
)


def vectors(kind: str, rows: int, seed: int) -> Tensor:
    """(rows, 8) float64 embeddings of one of :data:`KINDS`, with a gradient."""
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(rows, 8, generator=generator, dtype=torch.float64)
    match kind:
        case "zero":
            table[::2] = 0
        case "duplicates":
            table[:] = table[0]
        case "opposite":
            table[::2] = -table[0]
            table[1::2] = table[0]
        case "tiny":
            table *= 1e-9
        case "huge":
            table *= 1e6
        case "one-hot":
            table[:] = 0
            table[:, 0] = 1
    return table.requires_grad_()


def assert_same(ours: Tensor, theirs: Tensor, inputs: list[Tensor]) -> None:
    """Values and gradients agree to 1e-9."""
    assert ours.shape == ()
    assert ours.dtype == torch.float64
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    gradients = [torch.autograd.grad(loss, inputs, allow_unused=True) for loss in (ours, theirs)]
    for our, their in zip(*gradients, strict=True):
        assert our is not None
        expected = torch.zeros_like(our) if their is None else their
        # Inputs of length 1e-9 have gradients of 1e9.
        largest = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(our, expected, rtol=1e-9, atol=1e-9 * largest)


def assert_same_pair_loss(loss: Loss, their_loss: Any, kind: str, labels: str, rows: int) -> None:
    """A pair loss agrees with sentence-transformers' on one of :data:`pair_cases`."""
    columns = [vectors(kind, rows, seed) for seed in range(2)]
    label = LABELS[labels](rows)
    ours = loss(columns[0], columns[1], label)
    theirs = their_loss.compute_loss_from_embeddings(columns, label)
    assert_same(ours, theirs, columns)
