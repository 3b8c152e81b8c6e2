"""OnlineContrastiveLoss against sentence-transformers'."""

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
from sentence_transformers.sentence_transformer.losses import OnlineContrastiveLoss as TheirOnline

from embedft.losses import OnlineContrastiveLoss

pytestmark = pytest.mark.filterwarnings("ignore:.*expects binary labels")


@pytest.mark.parametrize("metric", SENTENCE_TRANSFORMERS_METRIC)
@pytest.mark.parametrize("margin", [0.5, 3.0])
@pair_cases
def test_equals_sentence_transformers(
    kind: str, labels: str, rows: int, margin: float, metric: Any
) -> None:
    loss = OnlineContrastiveLoss(margin, metric)
    their_loss = TheirOnline(None, SENTENCE_TRANSFORMERS_METRIC[metric], margin)
    assert_same_pair_loss(loss, their_loss, kind, labels, rows)


def test_only_graded_labels_give_zero() -> None:
    columns = [vectors("random", 4, seed) for seed in range(2)]
    loss = OnlineContrastiveLoss()(*columns, torch.full((4,), 0.5))
    assert loss.item() == 0
    loss.backward()


def test_gradients_are_those_of_finite_differences() -> None:
    columns = [vectors("random", 6, seed) for seed in range(2)]
    loss, labels = OnlineContrastiveLoss(1.5), LABELS["mixed"](6)
    assert torch.autograd.gradcheck(lambda a, b: loss(a, b, labels), columns)


@pytest.mark.parametrize("margin", [-1.0, float("nan")])
def test_negative_margins_are_refused(margin: float) -> None:
    with pytest.raises(ValueError, match=f"margin: is {margin}"):
        OnlineContrastiveLoss(margin=margin)
