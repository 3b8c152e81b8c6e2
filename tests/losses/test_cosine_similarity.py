"""CosineSimilarityLoss against sentence-transformers'."""

from __future__ import annotations

import pytest
import torch
from loss_oracles import LABELS, assert_same_pair_loss, pair_cases, vectors
from sentence_transformers.sentence_transformer.losses import CosineSimilarityLoss as TheirCosine

from embedft.losses import CosineSimilarityLoss

pytestmark = pytest.mark.filterwarnings("ignore:.*expects binary labels")


@pair_cases
def test_equals_sentence_transformers(kind: str, labels: str, rows: int) -> None:
    assert_same_pair_loss(CosineSimilarityLoss(), TheirCosine(None), kind, labels, rows)


def test_gradients_are_those_of_finite_differences() -> None:
    columns = [vectors("random", 6, seed) for seed in range(2)]
    loss, labels = CosineSimilarityLoss(), LABELS["mixed"](6)
    assert torch.autograd.gradcheck(lambda a, b: loss(a, b, labels), columns)
