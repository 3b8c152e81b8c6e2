"""Distances by hand, and pairs of the wrong shape."""

from __future__ import annotations

import pytest
import torch

from embedft.losses import ContrastiveLoss, CosineSimilarityLoss
from embedft.losses.distance import DistanceMetric, pairwise_distance


@pytest.mark.parametrize(
    ("metric", "expected"), [("cosine", 1.0), ("euclidean", 5.0), ("manhattan", 7.0)]
)
def test_distances_by_hand(metric: DistanceMetric, expected: float) -> None:
    first, second = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    assert pairwise_distance(first, second, metric).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "manhattan"])
def test_equal_vectors_have_a_finite_gradient(metric: DistanceMetric) -> None:
    vector = torch.tensor([[3.0, 4.0]], requires_grad=True)
    pairwise_distance(vector, vector.detach(), metric).sum().backward()  # type: ignore[no-untyped-call]
    assert vector.grad is not None
    assert vector.grad.isfinite().all()


def test_a_zero_vector_has_cosine_distance_one() -> None:
    assert pairwise_distance(torch.zeros(1, 2), torch.ones(1, 2), "cosine").item() == 1


def test_pairs_of_two_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="pairs must be two"):
        ContrastiveLoss()(torch.ones(2, 3), torch.ones(2, 4), torch.ones(2))


def test_labels_of_another_number_are_refused() -> None:
    with pytest.raises(ValueError, match="labels must be"):
        CosineSimilarityLoss()(torch.ones(2, 3), torch.ones(2, 3), torch.ones(3))
