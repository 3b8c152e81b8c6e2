"""MultipleNegativesRankingLoss against sentence-transformers', PyTorch's cross-entropy and by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from loss_oracles import KINDS, assert_same, vectors
from sentence_transformers.sentence_transformer.losses import (
    MultipleNegativesRankingLoss as TheirRanking,
)
from torch import Tensor
from torch.nn.functional import cross_entropy

from embedft.losses import MultipleNegativesRankingLoss


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("scale", [20.0, 1.0, 100.0])
@pytest.mark.parametrize("negatives", [0, 1, 3])
@pytest.mark.parametrize("rows", [1, 2, 16])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_sentence_transformers(
    symmetric: bool, scale: float, negatives: int, rows: int, kind: str
) -> None:
    columns = [vectors(kind, rows, seed) for seed in range(2 + negatives)]
    loss = MultipleNegativesRankingLoss(scale, symmetric)
    extra = torch.stack(columns[2:], dim=1) if negatives else None
    ours = loss(columns[0], columns[1], extra)
    options: dict[str, Any] = {"scale": scale}
    if symmetric:
        options |= {
            "directions": ("query_to_doc", "doc_to_query"),
            "partition_mode": "per_direction",
        }
    theirs = TheirRanking(model=None, **options).compute_loss_from_embeddings(columns, None)
    assert_same(ours, theirs, columns)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("kind", ["random", "opposite", "huge"])
def test_excluded_candidates_have_no_weight(kind: str, symmetric: bool) -> None:
    """As if each anchor had only its own candidates; the others' gradient is 0."""
    anchor, positive, *further = [vectors(kind, 6, seed) for seed in range(4)]
    negatives = torch.stack(further, dim=1)
    mask = torch.rand(6, 18, generator=torch.Generator().manual_seed(0)) < 0.5
    mask.fill_diagonal_(True)
    mask[:, 6 + 3 * 2 + 1] = False
    loss = MultipleNegativesRankingLoss(5.0, symmetric)
    ours = loss(anchor, positive, negatives, mask)
    candidates = torch.cat([positive, negatives.flatten(0, 1)])
    cosine = torch.nn.functional.cosine_similarity

    def term(query: Tensor, texts: Tensor, target: int, among: Tensor) -> Tensor:
        scores = 5.0 * cosine(query, texts[among], dim=-1).unsqueeze(0)
        index = among[:target].sum().unsqueeze(0)
        return cross_entropy(scores, index)

    theirs = torch.stack([term(anchor[i], candidates, i, mask[i]) for i in range(6)]).mean()
    if symmetric:
        mirrored = [term(positive[i], anchor, i, mask[:, i]) for i in range(6)]
        theirs = (theirs + torch.stack(mirrored).mean()) / 2
    (gradient,) = torch.autograd.grad(ours, further[1], retain_graph=True)
    assert_same(ours, theirs, [anchor, positive, *further])
    assert torch.equal(gradient[3], torch.zeros(8, dtype=torch.float64))


def test_a_relevant_answer_of_another_row_has_no_gradient() -> None:
    """Two rows, both answers relevant to both questions: there is nothing to push apart."""
    columns = [vectors("random", 2, seed) for seed in range(2)]
    loss = MultipleNegativesRankingLoss(symmetric=True)
    value = loss(*columns, None, torch.ones(2, 2, dtype=torch.bool))
    assert value > 0
    masked = loss(*columns, None, torch.eye(2, dtype=torch.bool))
    assert masked == 0
    for gradient in torch.autograd.grad(masked, columns):
        assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("symmetric", [False, True])
def test_gradients_are_those_of_finite_differences(symmetric: bool) -> None:
    columns = [vectors("random", 4, seed) for seed in range(3)]
    loss = MultipleNegativesRankingLoss(5.0, symmetric)
    assert torch.autograd.gradcheck(lambda a, p, n: loss(a, p, n.unsqueeze(1)), columns)


def test_value_by_hand() -> None:
    """Both candidates of each anchor have the same cosine, so the loss is log 2."""
    anchor = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    positive = torch.tensor([[3.0, 0.0], [1.0, 0.0]])
    loss = MultipleNegativesRankingLoss(2.0, symmetric=False)(anchor, positive)
    torch.testing.assert_close(loss, torch.log(torch.tensor(2.0)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MultipleNegativesRankingLoss(scale=0.0), "scale: is 0.0"),
        (lambda: MultipleNegativesRankingLoss()(torch.ones(2, 3), torch.ones(3, 3)), "anchors and"),
        (lambda: MultipleNegativesRankingLoss()(*[torch.ones(2, 3)] * 3), "negatives must be"),
    ],
)
def test_wrong_arguments(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
