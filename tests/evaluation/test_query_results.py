from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from embedft.evaluation.metrics import NAMES
from embedft.evaluation.query_results import QueryResults, evaluate_queries, task_name
from embedft.evaluation.retrieval import RetrievalTask


def task(queries: int, documents: int) -> RetrievalTask:
    rng = np.random.default_rng(0)
    relevant = [
        np.sort(rng.choice(documents, size=1 + query % 3, replace=False))
        for query in range(queries)
    ]
    texts = rng.permutation(queries + documents)
    order = np.arange(documents)
    return RetrievalTask(
        texts[:queries], texts[queries:], order, relevant, np.arange(queries), np.arange(queries)
    )


def test_results_of_several_ranks_sum_to_those_of_one() -> None:
    """Each of three ranks evaluates a third of the queries."""
    whole = task(20, 9)
    embeddings = torch.randn(29, 4, generator=torch.Generator().manual_seed(0))
    one_rank = evaluate_queries(embeddings, whole, "t", slice(0, None, 1), lambda tensor: tensor)
    parts: list[list[torch.Tensor]] = [[], []]
    for rank in range(3):
        shares = iter(parts)

        def keep(tensor: torch.Tensor, shares: Any = shares) -> torch.Tensor:
            next(shares).append(tensor.clone())
            return tensor

        evaluate_queries(embeddings, whole, "t", slice(rank, None, 3), keep)
    sums = iter([sum(part[1:], part[0]) for part in parts])
    summed = evaluate_queries(embeddings, whole, "t", slice(0, None, 1), lambda _: next(sums))
    for name, value in one_rank._asdict().items():
        other = summed._asdict()[name]
        if isinstance(value, torch.Tensor):  # products of other shapes may round otherwise
            torch.testing.assert_close(value, other)
        else:
            assert value == other


def evaluate_task(queries: int = 20, documents: int = 9) -> tuple[RetrievalTask, QueryResults]:
    whole = task(queries, documents)
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(queries + documents, 4, generator=generator)
    return whole, evaluate_queries(embeddings, whole, "t", slice(None), lambda tensor: tensor)


def test_fields_agree_with_each_other() -> None:
    whole, results = evaluate_task()
    assert results.values.shape == (20, len(NAMES))
    assert results.ndcg == pytest.approx(results.values[:, NAMES.index("ndcg@10")].numpy())
    for query, (rank, best, top) in enumerate(
        zip(results.ranks, results.best_indices, results.top_indices, strict=True)
    ):
        assert int(best) in whole.relevant[query]
        assert (int(best) in top) == (int(rank) <= 3)
    cosines = torch.nn.functional.cosine_similarity(
        results.question_embeddings, results.answer_embeddings
    )
    one_relevant = [query for query in range(20) if len(whole.relevant[query]) == 1]
    torch.testing.assert_close(
        cosines[one_relevant].double(), results.best_scores[one_relevant], rtol=0, atol=1e-5
    )


def test_keys_in_checkpoints_are_those_of_earlier_versions() -> None:
    """A checkpoint of any version can be read, also by the version that wrote it."""
    _, results = evaluate_task()
    state = results.state_dict()
    assert list(state) == [
        "task",
        "values",
        "ranks",
        "places",
        "scores",
        "top_places",
        "top_scores",
        "sample",
        "questions",
        "answers",
    ]
    assert torch.equal(state["places"], results.best_indices)
    assert torch.equal(state["scores"], results.best_scores)
    assert torch.equal(state["top_places"], results.top_indices)
    assert torch.equal(state["questions"], results.question_embeddings)
    assert torch.equal(state["answers"], results.answer_embeddings)
    again = QueryResults.from_state_dict(state)
    assert again.state_dict().keys() == state.keys()
    assert all(ours is theirs for ours, theirs in zip(again, results, strict=True))


def test_tasks_are_told_apart_by_texts_and_data() -> None:
    names = {task_name(task(5, 9), "a"), task_name(task(6, 9), "a"), task_name(task(5, 9), "b")}
    assert len(names) == 3
    assert task_name(task(5, 9), "a") in names
