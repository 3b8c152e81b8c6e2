"""Values and gradients equal sentence-transformers' in float64, on random and adversarial inputs."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from sentence_transformers.sentence_transformer.losses import (
    ContrastiveLoss as PeerContrastive,
)
from sentence_transformers.sentence_transformer.losses import (
    CosineSimilarityLoss as PeerCosine,
)
from sentence_transformers.sentence_transformer.losses import (
    MatryoshkaLoss as PeerMatryoshka,
)
from sentence_transformers.sentence_transformer.losses import (
    MultipleNegativesRankingLoss as PeerRanking,
)
from sentence_transformers.sentence_transformer.losses import (
    OnlineContrastiveLoss as PeerOnline,
)
from sentence_transformers.sentence_transformer.losses import SiameseDistanceMetric
from sentence_transformers.util import cos_sim
from torch import Tensor
from torch.nn.functional import cross_entropy

from embedft.losses import (
    ContrastiveLoss,
    CosineSimilarityLoss,
    Loss,
    MatryoshkaLoss,
    MultipleNegativesRankingLoss,
    OnlineContrastiveLoss,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*expects binary labels")

PEER_DISTANCE = {
    "cosine": SiameseDistanceMetric.COSINE_DISTANCE,
    "euclidean": SiameseDistanceMetric.EUCLIDEAN,
    "manhattan": SiameseDistanceMetric.MANHATTAN,
}


def vectors(kind: str, rows: int, seed: int) -> Tensor:
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


KINDS = ("random", "zero", "duplicates", "opposite", "tiny", "huge", "one-hot")


def assert_same(ours: Tensor, theirs: Tensor, inputs: list[Tensor]) -> None:
    assert ours.shape == ()
    assert ours.dtype == torch.float64
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    gradients = [torch.autograd.grad(loss, inputs, allow_unused=True) for loss in (ours, theirs)]
    for mine, peers in zip(*gradients, strict=True):
        assert mine is not None
        expected = torch.zeros_like(mine) if peers is None else peers
        largest = max(
            1.0, float(expected.abs().max())
        )  # inputs of length 1e-9 give gradients of 1e9
        torch.testing.assert_close(mine, expected, rtol=1e-9, atol=1e-9 * largest)


def cosine_less_margin(margin: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Cosines, those of row i and row i lessened: what the peer may be given in their place."""
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
def test_multiple_negatives_ranking(
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
    theirs = PeerRanking(model=None, **options).compute_loss_from_embeddings(columns, None)
    assert_same(ours, theirs, columns)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("smoothing", [0.05, 0.5])
@pytest.mark.parametrize("negatives", [0, 1, 3])
@pytest.mark.parametrize("rows", [1, 2, 16])
@pytest.mark.parametrize("kind", KINDS)
def test_label_smoothing(
    symmetric: bool, smoothing: float, negatives: int, rows: int, kind: str
) -> None:
    """PyTorch's, of the scores, where each candidate counts."""
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
def test_candidates_left_out_have_no_weight(kind: str, smoothing: float, symmetric: bool) -> None:
    """As if each anchor had only the candidates that count for it; the others' gradient is 0."""
    anchor, positive, *further = [vectors(kind, 6, seed) for seed in range(4)]
    negatives = torch.stack(further, dim=1)
    mask = torch.rand(6, 18, generator=torch.Generator().manual_seed(0)) < 0.5
    mask.fill_diagonal_(True)
    mask[:, 6 + 3 * 2 + 1] = False
    loss = MultipleNegativesRankingLoss(5.0, symmetric, label_smoothing=smoothing)
    ours = loss(anchor, positive, negatives, mask)
    candidates = torch.cat([positive, negatives.flatten(0, 1)])
    cosine = torch.nn.functional.cosine_similarity

    def term(query: Tensor, texts: Tensor, own: int, among: Tensor) -> Tensor:
        scores = 5.0 * cosine(query, texts[among], dim=-1).unsqueeze(0)
        place = among[:own].sum().unsqueeze(0)
        return cross_entropy(scores, place, label_smoothing=smoothing)

    theirs = torch.stack([term(anchor[i], candidates, i, mask[i]) for i in range(6)]).mean()
    if symmetric:
        found = [term(positive[i], anchor, i, mask[:, i]) for i in range(6)]
        theirs = (theirs + torch.stack(found).mean()) / 2
    (gradient,) = torch.autograd.grad(ours, further[1], retain_graph=True)
    assert_same(ours, theirs, [anchor, positive, *further])
    assert torch.equal(gradient[3], torch.zeros(8, dtype=torch.float64))


def test_a_right_answer_of_another_row_has_no_gradient() -> None:
    """Two rows, each of whose answers is right to both: there is nothing to push apart."""
    columns = [vectors("random", 2, seed) for seed in range(2)]
    loss = MultipleNegativesRankingLoss(symmetric=True)
    value = loss(*columns, None, torch.ones(2, 2, dtype=torch.bool))
    assert value > 0
    masked = loss(*columns, None, torch.eye(2, dtype=torch.bool))
    assert masked == 0
    for gradient in torch.autograd.grad(masked, columns):
        assert torch.equal(gradient, torch.zeros_like(gradient))


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


def check_pair_loss(loss: Loss, peer: Any, kind: str, labels: str, rows: int) -> None:
    columns = [vectors(kind, rows, seed) for seed in range(2)]
    label = LABELS[labels](rows)
    ours = loss(columns[0], columns[1], label)
    theirs = peer.compute_loss_from_embeddings(columns, label)
    assert_same(ours, theirs, columns)


@pytest.mark.parametrize("size_average", [True, False])
@pytest.mark.parametrize("metric", PEER_DISTANCE)
@pytest.mark.parametrize("margin", [0.5, 3.0])
@pair_cases
def test_contrastive(
    kind: str, labels: str, rows: int, margin: float, metric: Any, size_average: bool
) -> None:
    loss = ContrastiveLoss(margin, metric, size_average)
    peer = PeerContrastive(None, PEER_DISTANCE[metric], margin, size_average)
    check_pair_loss(loss, peer, kind, labels, rows)


@pair_cases
def test_cosine_similarity(kind: str, labels: str, rows: int) -> None:
    check_pair_loss(CosineSimilarityLoss(), PeerCosine(None), kind, labels, rows)


@pytest.mark.parametrize("metric", PEER_DISTANCE)
@pytest.mark.parametrize("margin", [0.5, 3.0])
@pair_cases
def test_online_contrastive(kind: str, labels: str, rows: int, margin: float, metric: Any) -> None:
    loss = OnlineContrastiveLoss(margin, metric)
    peer = PeerOnline(None, PEER_DISTANCE[metric], margin)
    check_pair_loss(loss, peer, kind, labels, rows)


class Ready(torch.nn.Module):
    """The peer's model: its embeddings are ready."""

    similarity_fct = None

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return dict(features)

    def get_embedding_dimension(self) -> int:
        return 8


@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 3.0]])
@pytest.mark.parametrize("kind", ["random", "huge", "duplicates"])
@pytest.mark.parametrize("name", ["ranking", "contrastive", "euclidean", "cosine", "online"])
def test_matryoshka(name: str, kind: str, weights: list[float] | None) -> None:
    dims = [8, 2, 5]
    model = Ready()
    metric = PEER_DISTANCE["euclidean"]
    loss, peer = {
        "ranking": (MultipleNegativesRankingLoss(), PeerRanking(model)),
        "contrastive": (ContrastiveLoss(), PeerContrastive(model)),
        "euclidean": (
            ContrastiveLoss(distance_metric="euclidean"),
            PeerContrastive(model, distance_metric=metric),
        ),
        "cosine": (CosineSimilarityLoss(), PeerCosine(model)),
        "online": (OnlineContrastiveLoss(), PeerOnline(model)),
    }[name]
    columns = [vectors(kind, 9, seed) for seed in range(4 if name == "ranking" else 2)]
    labels = LABELS["mixed"](9)
    rest = torch.stack(columns[2:], dim=1) if name == "ranking" else labels
    ours = MatryoshkaLoss(loss, dims, weights)(*columns[:2], rest)
    features = [{"sentence_embedding": column} for column in columns]
    theirs = PeerMatryoshka(model, peer, dims, weights)(features, labels)
    assert_same(ours, theirs, columns)


def test_online_contrastive_without_any_whole_label_is_zero() -> None:
    columns = [vectors("random", 4, seed) for seed in range(2)]
    loss = OnlineContrastiveLoss()(*columns, torch.full((4,), 0.5))
    assert loss.item() == 0
    loss.backward()


@pytest.mark.parametrize("symmetric", [False, True])
def test_gradcheck_ranking(symmetric: bool) -> None:
    columns = [vectors("random", 4, seed) for seed in range(3)]
    loss = MultipleNegativesRankingLoss(5.0, symmetric, 0.2)
    assert torch.autograd.gradcheck(lambda a, p, n: loss(a, p, n.unsqueeze(1)), columns)


@pytest.mark.parametrize(
    "loss", [ContrastiveLoss(1.5), CosineSimilarityLoss(), OnlineContrastiveLoss(1.5)]
)
def test_gradcheck_pairs(loss: Loss) -> None:
    columns = [vectors("random", 6, seed) for seed in range(2)]
    labels = LABELS["mixed"](6)
    assert torch.autograd.gradcheck(lambda a, b: loss(a, b, labels), columns)


def test_formula_by_hand() -> None:
    anchor = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    positive = torch.tensor([[3.0, 0.0], [1.0, 0.0]])
    loss = MultipleNegativesRankingLoss(scale=2.0)(anchor, positive)
    first, second = torch.log(torch.tensor(2.0)), torch.log(torch.tensor(2.0))
    torch.testing.assert_close(loss, (first + second) / 2)
    pairs = ContrastiveLoss(margin=0.5)(anchor, positive, torch.tensor([1, 0]))
    assert pairs.item() == pytest.approx(
        0.0
    )  # the first pair is equal, the second beyond the margin
    pairs = ContrastiveLoss(margin=3.0)(anchor, positive, torch.tensor([1, 0]))
    assert pairs.item() == pytest.approx(0.5 * (3.0 - 1.0) ** 2 / 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MultipleNegativesRankingLoss(scale=0.0), "scale: is 0.0"),
        (lambda: MultipleNegativesRankingLoss(additive_margin=-0.1), "additive_margin: is -0.1"),
        (lambda: MultipleNegativesRankingLoss(additive_margin=2.0), "additive_margin: is 2.0"),
        (lambda: MultipleNegativesRankingLoss(label_smoothing=-0.1), "label_smoothing: is -0.1"),
        (lambda: MultipleNegativesRankingLoss(label_smoothing=1.0), "label_smoothing: is 1.0"),
        (lambda: MatryoshkaLoss(MultipleNegativesRankingLoss(), []), "matryoshka_dims: is"),
        (lambda: MatryoshkaLoss(MultipleNegativesRankingLoss(), [0, 4]), "matryoshka_dims: is"),
        (lambda: MatryoshkaLoss(MultipleNegativesRankingLoss(), [4, 4]), "matryoshka_dims: is"),
        (lambda: MatryoshkaLoss(CosineSimilarityLoss(), [8, 4], [1.0]), "must be 2 numbers above"),
        (lambda: MatryoshkaLoss(CosineSimilarityLoss(), [4], [0.0]), "must be 1 numbers above"),
        (
            lambda: MatryoshkaLoss(MultipleNegativesRankingLoss(), [4])(*[torch.ones(2, 3)] * 2),
            "has 4, the embeddings have 3 dim",
        ),
        (lambda: ContrastiveLoss(margin=-1.0), "margin: is -1.0"),
        (lambda: OnlineContrastiveLoss(margin=float("nan")), "margin: is nan"),
        (lambda: MultipleNegativesRankingLoss()(torch.ones(2, 3), torch.ones(3, 3)), "anchors and"),
        (lambda: MultipleNegativesRankingLoss()(*[torch.ones(2, 3)] * 3), "negatives must be"),
        (
            lambda: ContrastiveLoss()(torch.ones(2, 3), torch.ones(2, 4), torch.ones(2)),
            "pairs must",
        ),
        (
            lambda: CosineSimilarityLoss()(torch.ones(2, 3), torch.ones(2, 3), torch.ones(3)),
            "labels",
        ),
    ],
)
def test_wrong_arguments(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
