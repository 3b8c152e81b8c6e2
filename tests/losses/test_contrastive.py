"""ContrastiveLoss against sentence-transformers' and by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from loss_oracles import (
    LABELS,
    SENTENCE_TRANSFORMERS_METRIC,
    assert_same_pair_loss,
    pair_cases,
    vectors,
)
from sentence_transformers.sentence_transformer.losses import ContrastiveLoss as TheirContrastive

from embedft.losses import ContrastiveLoss

pytestmark = pytest.mark.filterwarnings("ignore:.*expects binary labels")


@pytest.mark.parametrize("size_average", [True, False])
@pytest.mark.parametrize("metric", SENTENCE_TRANSFORMERS_METRIC)
@pytest.mark.parametrize("margin", [0.5, 3.0])
@pair_cases
def test_equals_sentence_transformers(
    kind: str, labels: str, rows: int, margin: float, metric: Any, size_average: bool
) -> None:
    loss = ContrastiveLoss(margin, metric, size_average)
    their_loss = TheirContrastive(None, SENTENCE_TRANSFORMERS_METRIC[metric], margin, size_average)
    assert_same_pair_loss(loss, their_loss, kind, labels, rows)


def test_gradients_are_those_of_finite_differences() -> None:
    columns = [vectors("random", 6, seed) for seed in range(2)]
    loss, labels = ContrastiveLoss(1.5), LABELS["mixed"](6)
    assert torch.autograd.gradcheck(lambda a, b: loss(a, b, labels), columns)


def test_values_by_hand() -> None:
    """The first pair is equal; the second, of cosine distance 1, is negative."""
    first = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    second = torch.tensor([[3.0, 0.0], [1.0, 0.0]])
    labels = torch.tensor([1, 0])
    assert ContrastiveLoss(margin=0.5)(first, second, labels).item() == pytest.approx(0.0)
    within_margin = ContrastiveLoss(margin=3.0)(first, second, labels)
    assert within_margin.item() == pytest.approx(0.5 * (3.0 - 1.0) ** 2 / 2)


@pytest.mark.parametrize("margin", [-1.0, float("nan")])
def test_negative_margins_are_refused(margin: float) -> None:
    with pytest.raises(ValueError, match=f"margin: is {margin}"):
        ContrastiveLoss(margin=margin)
