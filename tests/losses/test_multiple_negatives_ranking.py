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
from sentence_transformers.util import cos_sim
from torch import Tensor
from torch.nn.functional import cross_entropy

from embedft.losses import MultipleNegativesRankingLoss


def cosine_less_margin(margin: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Cosines, minus the margin on the diagonal; replaces sentence-transformers' similarity."""
    return lambda first, second: (
        cos_sim(first, second)
        - margin * torch.eye(len(first), len(second), dtype=torch.float64, device=first.device)
    )


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(
    ("scale", "margin"), [(20.0, 0), (1.0, 0), (100.0, 0), (1.0, 0.3), (40.0, 0.15)]
)
@pytest.mark.parametrize("negatives", [0, 1, 3])
@pytest.mark.parametrize("rows", [1, 2, 16])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_sentence_transformers(
    symmetric: bool, scale: float, margin: float, negatives: int, rows: int, kind: str
) -> None:
    columns = [vectors(kind, rows, seed) for seed in range(2 + negatives)]
    loss = MultipleNegativesRankingLoss(scale, symmetric, margin)
    extra = torch.stack(columns[2:], dim=1) if negatives else None
    ours = loss(columns[0], columns[1], extra)
    options: dict[str, Any] = {"scale": scale}
    if margin:
        options["similarity_fct"] = cosine_less_margin(margin)
    if symmetric:
        options |= {
            "directions": ("query_to_doc", "doc_to_query"),
            "partition_mode": "per_direction",
        }
    theirs = TheirRanking(model=None, **options).compute_loss_from_embeddings(columns, None)
    assert_same(ours, theirs, columns)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("smoothing", [0.05, 0.5])
@pytest.mark.parametrize("negatives", [0, 1, 3])
@pytest.mark.parametrize("rows", [1, 2, 16])
@pytest.mark.parametrize("kind", KINDS)
def test_label_smoothing(
    symmetric: bool, smoothing: float, negatives: int, rows: int, kind: str
) -> None:
    """Equals PyTorch's label smoothing if no candidate is excluded."""
    columns = [vectors(kind, rows, seed) for seed in range(2 + negatives)]
    loss = MultipleNegativesRankingLoss(20.0, symmetric, label_smoothing=smoothing)
    extra = torch.stack(columns[2:], dim=1) if negatives else None
    candidates = [columns[1], *([extra.flatten(0, 1)] if extra is not None else [])]
    scores = 20.0 * cos_sim(columns[0], torch.cat(candidates))
    target = torch.arange(rows)
    theirs = cross_entropy(scores, target, label_smoothing=smoothing)
    if symmetric:
        mirrored = scores[:, :rows].T
        theirs = theirs + cross_entropy(mirrored, target, label_smoothing=smoothing)
        theirs = theirs / 2
    assert_same(loss(columns[0], columns[1], extra), theirs, columns)


@pytest.mark.parametrize("name", ["additive_margin", "label_smoothing"])
def test_auto_without_a_trainer_is_zero(name: str) -> None:
    """Only a run knows the training questions that decide it."""
    anchor, positive = (vectors("random", 6, seed) for seed in range(2))
    auto = MultipleNegativesRankingLoss(**{name: "auto"})  # type: ignore[arg-type]
    plain = MultipleNegativesRankingLoss()(anchor, positive)
    assert torch.equal(auto(anchor, positive), plain)
    setattr(auto, name, 0.2)  # as a run does
    fixed = MultipleNegativesRankingLoss(**{name: 0.2})  # type: ignore[arg-type]
    assert torch.equal(auto(anchor, positive), fixed(anchor, positive))
    assert not torch.equal(auto(anchor, positive), plain)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["random", "opposite", "huge"])
def test_excluded_candidates_have_no_weight(kind: str, smoothing: float, symmetric: bool) -> None:
    """As if each anchor had only its own candidates; the others' gradient is 0."""
    anchor, positive, *further = [vectors(kind, 6, seed) for seed in range(4)]
    negatives = torch.stack(further, dim=1)
    mask = torch.rand(6, 18, generator=torch.Generator().manual_seed(0)) < 0.5
    mask.fill_diagonal_(True)
    mask[:, 6 + 3 * 2 + 1] = False
    loss = MultipleNegativesRankingLoss(5.0, symmetric, label_smoothing=smoothing)
    ours = loss(anchor, positive, negatives, mask)
    candidates = torch.cat([positive, negatives.flatten(0, 1)])
    cosine = torch.nn.functional.cosine_similarity

    def term(query: Tensor, texts: Tensor, target: int, among: Tensor) -> Tensor:
        scores = 5.0 * cosine(query, texts[among], dim=-1).unsqueeze(0)
        index = among[:target].sum().unsqueeze(0)
        return cross_entropy(scores, index, label_smoothing=smoothing)

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
    loss = MultipleNegativesRankingLoss(5.0, symmetric, 0.2)
    assert torch.autograd.gradcheck(lambda a, p, n: loss(a, p, n.unsqueeze(1)), columns)


def test_value_by_hand() -> None:
    """Both candidates of each anchor have the same cosine, so the loss is log 2."""
    anchor = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    positive = torch.tensor([[3.0, 0.0], [1.0, 0.0]])
    loss = MultipleNegativesRankingLoss(scale=2.0)(anchor, positive)
    torch.testing.assert_close(loss, torch.log(torch.tensor(2.0)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MultipleNegativesRankingLoss(scale=0.0), "scale: is 0.0"),
        (lambda: MultipleNegativesRankingLoss(additive_margin=-0.1), "additive_margin: is -0.1"),
        (lambda: MultipleNegativesRankingLoss(additive_margin=2.0), "additive_margin: is 2.0"),
        (lambda: MultipleNegativesRankingLoss(label_smoothing=-0.1), "label_smoothing: is -0.1"),
        (lambda: MultipleNegativesRankingLoss(label_smoothing=1.0), "label_smoothing: is 1.0"),
        (lambda: MultipleNegativesRankingLoss()(torch.ones(2, 3), torch.ones(3, 3)), "anchors and"),
        (lambda: MultipleNegativesRankingLoss()(*[torch.ones(2, 3)] * 3), "negatives must be"),
    ],
)
def test_wrong_arguments(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
