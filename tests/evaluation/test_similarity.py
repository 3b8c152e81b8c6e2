from __future__ import annotations

import numpy as np
import pytest
import torch

from embedft.evaluation.query_results import QueryResults
from embedft.evaluation.similarity import pair_similarities, separation, two_dimensions


def test_similarities_by_hand() -> None:
    nothing = torch.zeros(0)
    found = QueryResults(
        "t",
        *[nothing] * 6,  # type: ignore[misc]  # mypy counts no starred arguments
        sample=torch.arange(3),
        question_embeddings=torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 1.0]]),
        answer_embeddings=torch.tensor([[1.0, 0.0], [0.0, 3.0], [0.0, 3.0]]),
    )
    relevant, other = pair_similarities(found, [np.array([0]), np.array([4]), np.array([4, 5])])
    assert relevant == pytest.approx([1, 1, 0.5**0.5])
    assert other == pytest.approx([0, 0, 0, 0.5**0.5]), "an answer relevant to both is in neither"
    assert separation(relevant, other) == pytest.approx((2 * 4 + 3.5) / 12)


def test_two_dimensions_keep_a_plane() -> None:
    """Points of a plane through the sphere's centre keep their distances."""
    generator = torch.Generator().manual_seed(0)
    plane = torch.linalg.qr(torch.randn(8, 2, generator=generator)).Q
    angles = torch.rand(12, generator=generator) * 6
    points = torch.stack([angles.cos(), angles.sin()], dim=1) @ plane.T
    (first, second), share = two_dimensions([points[:5], 7 * points[5:]])
    assert share == pytest.approx(1)
    placed = torch.from_numpy(np.concatenate([first, second]))
    torch.testing.assert_close(
        torch.cdist(placed, placed), torch.cdist(points, points), atol=1e-4, rtol=0
    )
