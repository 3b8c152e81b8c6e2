from __future__ import annotations

import numpy as np
import pytest
import torch

from embedft.evaluation.retrieval import SORT_ABOVE, Relevant, RetrievalTask, rank_documents


def test_ties_rank_in_corpus_order() -> None:
    queries = torch.ones(1, 4)
    corpus = torch.ones(5, 4)
    (found,) = rank_documents(queries, corpus, [np.array([1, 3])], top=3)
    assert found.ranks.tolist() == [2, 4]


def test_ties_at_the_edge_are_the_first() -> None:
    """Of equal scores the first in corpus order are kept, also if not all fit."""
    corpus = torch.ones(300, 4)
    corpus[200] = torch.tensor([1.0, 1.0, 1.0, 0.9])
    (found,) = rank_documents(corpus[200:201], corpus, [np.array([5])], top=3)
    assert found.top_indices.tolist() == [200, 0, 1]
    assert found.ranks.tolist() == [7]


@pytest.mark.parametrize("n_relevant", [SORT_ABOVE, SORT_ABOVE + 1, 400])
def test_many_relevant_answers(n_relevant: int) -> None:
    """By comparing or by sorting: the ranks of a stable sort, ties included."""
    rng = np.random.default_rng(n_relevant)
    corpus = torch.from_numpy(rng.integers(-2, 3, (500, 3))).float()
    corpus[:, 0] += 0.5
    query = torch.tensor([[1.0, 0.5, 0.25]])
    relevant = rng.choice(500, size=n_relevant, replace=False)
    (found,) = rank_documents(query, corpus, [relevant])
    scores = torch.nn.functional.normalize(query) @ torch.nn.functional.normalize(corpus).T
    order = np.argsort(-scores[0].numpy(), kind="stable").tolist()
    assert found.ranks.tolist() == sorted(order.index(document) + 1 for document in relevant)


def test_top_answers() -> None:
    """The best three, best first, or fewer if the corpus is smaller."""
    query = torch.tensor([[1.0, 0.0]])
    corpus = torch.tensor([[0.0, 1.0], [3.0, 4.0], [4.0, 3.0], [1.0, 0.0], [-1.0, 0.0]])
    (found,) = rank_documents(query, corpus, [np.array([1, 4])], top=3)
    assert found.top_indices.tolist() == [3, 2, 1]
    torch.testing.assert_close(found.top_scores, torch.tensor([1.0, 0.8, 0.6]))
    assert float(found.best_score) == pytest.approx(0.6)
    (found,) = rank_documents(query, corpus[:2], [np.array([0])], top=3)
    assert found.top_indices.tolist() == [1, 0]


def test_texts_of_a_task_are_distinct() -> None:
    task = RetrievalTask(
        np.array([4, 1]),
        np.array([2, 4]),
        np.array([0, 1]),
        [np.array([0])] * 2,
        np.arange(2),
        np.arange(2),
    )
    assert task.texts.tolist() == [1, 2, 4]


def test_autocast_does_not_round_scores() -> None:
    """Two answers so near that bfloat16 can't tell them apart."""
    query = torch.tensor([[1.0, 0.0]])
    corpus = torch.tensor([[1.0, 0.03], [1.0, 0.0]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (found,) = rank_documents(query, corpus, [np.array([1])])
    assert found.ranks.tolist() == [1]


def test_relevant_is_a_sequence_of_arrays() -> None:
    relevant = Relevant(np.array([4, 7, 1, 2, 3]), np.array([0, 2, 3, 5]))
    assert [indices.tolist() for indices in relevant] == [[4, 7], [1], [2, 3]]
    assert [indices.tolist() for indices in relevant[1:]] == [[1], [2, 3]]
    assert [indices.tolist() for indices in relevant[::2][1:]] == [[2, 3]]
    assert len(relevant[::2]) == 2
