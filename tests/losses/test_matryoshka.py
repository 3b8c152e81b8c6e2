"""MatryoshkaLoss around each loss, against sentence-transformers'."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from loss_oracles import LABELS, SENTENCE_TRANSFORMERS_METRIC, assert_same, vectors
from sentence_transformers.sentence_transformer.losses import ContrastiveLoss as TheirContrastive
from sentence_transformers.sentence_transformer.losses import CosineSimilarityLoss as TheirCosine
from sentence_transformers.sentence_transformer.losses import MatryoshkaLoss as TheirMatryoshka
from sentence_transformers.sentence_transformer.losses import (
    MultipleNegativesRankingLoss as TheirRanking,
)
from sentence_transformers.sentence_transformer.losses import OnlineContrastiveLoss as TheirOnline
from torch import Tensor

from embedft.losses import (
    ContrastiveLoss,
    CosineSimilarityLoss,
    MatryoshkaLoss,
    MultipleNegativesRankingLoss,
    OnlineContrastiveLoss,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*expects binary labels")


class PassThrough(torch.nn.Module):
    """A model for sentence-transformers' loss: its inputs are the embeddings."""

    similarity_fct = None

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return dict(features)

    def get_embedding_dimension(self) -> int:
        return 8


@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 3.0]])
@pytest.mark.parametrize("kind", ["random", "huge", "duplicates"])
@pytest.mark.parametrize("name", ["ranking", "contrastive", "euclidean", "cosine", "online"])
def test_equals_sentence_transformers(name: str, kind: str, weights: list[float] | None) -> None:
    dims = [8, 2, 5]
    model = PassThrough()
    metric = SENTENCE_TRANSFORMERS_METRIC["euclidean"]
    loss, their_loss = {
        "ranking": (MultipleNegativesRankingLoss(symmetric=False), TheirRanking(model)),
        "contrastive": (ContrastiveLoss(), TheirContrastive(model)),
        "euclidean": (
            ContrastiveLoss(distance_metric="euclidean"),
            TheirContrastive(model, distance_metric=metric),
        ),
        "cosine": (CosineSimilarityLoss(), TheirCosine(model)),
        "online": (OnlineContrastiveLoss(), TheirOnline(model)),
    }[name]
    columns = [vectors(kind, 9, seed) for seed in range(4 if name == "ranking" else 2)]
    labels = LABELS["mixed"](9)
    rest = torch.stack(columns[2:], dim=1) if name == "ranking" else labels
    ours = MatryoshkaLoss(loss, dims, weights)(*columns[:2], rest)
    features = [{"sentence_embedding": column} for column in columns]
    theirs = TheirMatryoshka(model, their_loss, dims, weights)(features, labels)
    assert_same(ours, theirs, columns)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MatryoshkaLoss(MultipleNegativesRankingLoss(), []), "matryoshka_dims: is"),
        (lambda: MatryoshkaLoss(MultipleNegativesRankingLoss(), [0, 4]), "matryoshka_dims: is"),
        (lambda: MatryoshkaLoss(MultipleNegativesRankingLoss(), [4, 4]), "matryoshka_dims: is"),
        (lambda: MatryoshkaLoss(CosineSimilarityLoss(), [8, 4], [1.0]), "must be 2 numbers above"),
        (lambda: MatryoshkaLoss(CosineSimilarityLoss(), [4], [0.0]), "must be 1 numbers above"),
        (
            lambda: MatryoshkaLoss(MultipleNegativesRankingLoss(), [4])(*[torch.ones(2, 3)] * 2),
            "has 4, but the embeddings have only 3 dim",
        ),
    ],
)
def test_wrong_arguments(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
