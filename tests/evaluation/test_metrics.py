"""Metrics equal sentence-transformers' InformationRetrievalEvaluator on the same embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
from torch import Tensor

from embedft.evaluation.metrics import NAMES, SHOWN, RetrievalMetrics, query_values, shown_in
from embedft.evaluation.retrieval import QUERY_BLOCK, rank_documents

THEIR_NAMES = {
    "recall@1": "cosine_recall@1",
    "recall@5": "cosine_recall@5",
    "recall@10": "cosine_recall@10",
    "mrr@10": "cosine_mrr@10",
    "ndcg@10": "cosine_ndcg@10",
    "map@100": "cosine_map@100",
}


class Table:
    """A stand-in for the evaluator's model: looks embeddings up by the number in the text."""

    def __init__(self, queries: Tensor, corpus: Tensor) -> None:
        self.tables = {"q": queries, "d": corpus}
        self.similarity_fn_name = "cosine"
        self.model_card_data = None

    def _encode(self, texts: list[str], **_: Any) -> Tensor:
        return torch.stack([self.tables[text[0]][int(text[1:])] for text in texts])

    encode_query = encode_document = encode = _encode


def by_sentence_transformers(
    queries: Tensor, corpus: Tensor, relevant: list[set[int]]
) -> dict[str, float]:
    evaluator = InformationRetrievalEvaluator(
        {f"q{i}": f"q{i}" for i in range(len(queries))},
        {f"d{i}": f"d{i}" for i in range(len(corpus))},
        {f"q{i}": {f"d{j}" for j in right} for i, right in enumerate(relevant)},
        corpus_chunk_size=1_000_000,
        score_functions={"cosine": lambda a, b: _unit(a) @ _unit(b).T},
    )
    scores = evaluator.compute_metrices(Table(queries, corpus))["cosine"]
    kinds = {"recall": "recall@k", "mrr": "mrr@k", "ndcg": "ndcg@k", "map": "map@k"}
    return {
        name: scores[kinds[name.split("@")[0]]][int(name.split("@")[1])] for name in THEIR_NAMES
    }


def _unit(table: Tensor) -> Tensor:
    return torch.nn.functional.normalize(table, dim=-1)


def ours(queries: Tensor, corpus: Tensor, relevant: list[set[int]]) -> dict[str, float]:
    metrics = RetrievalMetrics()
    for found in rank_documents(queries, corpus, [np.array(sorted(right)) for right in relevant]):
        metrics.update(query_values(found.ranks))
    return metrics.compute()


@pytest.mark.parametrize("right", [1, 3, 12, 150])
@pytest.mark.parametrize("documents", [4, 300])
def test_equal_on_random_embeddings(right: int, documents: int) -> None:
    generator = torch.Generator().manual_seed(right)
    rng = np.random.default_rng(right)
    corpus = torch.randn(documents, 16, generator=generator, dtype=torch.float64)
    count = QUERY_BLOCK + 7
    relevant = [
        set(
            rng.choice(
                documents, size=min(documents, int(rng.integers(1, right + 1))), replace=False
            ).tolist()
        )
        for _ in range(count)
    ]
    own = torch.stack([corpus[sorted(r)].mean(dim=0) for r in relevant])
    queries = own + 0.7 * torch.randn(count, 16, generator=generator, dtype=torch.float64)
    expected = by_sentence_transformers(queries, corpus, relevant)
    measured = ours(queries, corpus, relevant)
    assert measured.keys() == expected.keys()
    for name, value in expected.items():
        assert measured[name] == pytest.approx(value, abs=1e-6), name
    assert 0 < measured["ndcg@10"] < 1


def test_negative_similarities_count() -> None:
    queries = torch.tensor([[1.0, 0.0]])
    corpus = torch.tensor([[-0.1, 1.0], [-1.0, 0.0]])
    assert ours(queries, corpus, [{0}])["mrr@10"] == 1.0


def test_zero_vectors_do_not_make_nan() -> None:
    assert ours(torch.zeros(1, 4), torch.zeros(3, 4), [{2}])["mrr@10"] == pytest.approx(1 / 3)


def test_shown_order() -> None:
    assert SHOWN[:6] == ("ndcg@10", "mrr@10", "recall@1", "recall@5", "recall@10", "map@100")
    assert sorted(SHOWN) == sorted(NAMES)
    assert shown_in({"map@100": 0, "mrr@10": 0, "step": 3}, {"mrr@10": 1}) == ["mrr@10"]


def test_by_hand() -> None:
    metrics = RetrievalMetrics()
    metrics.update(query_values(torch.tensor([2, 11])))
    values = metrics.compute()
    dcg, ideal = 1 / np.log2(3), 1 + 1 / np.log2(3)
    assert values["recall@1"] == 0
    assert values["recall@5"] == values["recall@10"] == 0.5
    assert values["mrr@10"] == 0.5
    assert values["ndcg@10"] == pytest.approx(dcg / ideal, abs=1e-9)
    assert values["map@100"] == pytest.approx((1 / 2 + 2 / 11) / 2, abs=1e-9)


def test_sums_do_not_depend_on_order() -> None:
    ranks = [torch.tensor([rank]) for rank in (1, 3, 7, 2, 9, 30, 5)]
    results = []
    for order in (ranks, ranks[::-1]):
        metrics = RetrievalMetrics()
        for rank in order:
            metrics.update(query_values(rank))
        results.append(metrics.compute())
    assert results[0] == results[1]


def test_no_query_gives_zeros() -> None:
    with pytest.warns(UserWarning, match="before the ``update``"):
        assert set(RetrievalMetrics().compute().values()) == {0.0}
