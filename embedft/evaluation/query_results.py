"""The results of an evaluation, query by query, kept so that a report need not search again.

Shape suffixes: X texts, Q queries, C corpus documents, D embedding, M metrics, T top documents,
S sampled queries.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedft.evaluation.metrics import NAMES, PRIMARY, query_values
from embedft.evaluation.retrieval import RetrievalTask, rank_documents

TOP = 3
"""Answers kept for each question."""
SAMPLE = 500
"""Questions whose embeddings are kept, each with the embedding of one relevant answer."""

# Keys in checkpoints that differ from the names of the fields.
_STORED_AS = {
    "best_indices": "places",
    "best_scores": "scores",
    "top_indices": "top_places",
    "question_embeddings": "questions",
    "answer_embeddings": "answers",
}

_DTYPES = {
    "values": torch.float64,
    "best_scores": torch.float64,
    "top_scores": torch.float64,
    "question_embeddings": torch.float32,
    "answer_embeddings": torch.float32,
}
"""Of the tensors that do not hold int64."""


class QueryResults(NamedTuple):
    """The results of one model on all queries of a retrieval task; all tensors are on the CPU.

    Attributes:
        task: Identifies the retrieval task.
        values: (Q, M) float64, the metrics of each query, in the order of ``NAMES``.
        ranks: (Q,) int64, rank of the best relevant answer, from 1.
        best_indices: (Q,) int64, corpus index of that answer.
        best_scores: (Q,) float64, cosine similarity of that answer.
        top_indices: (Q, T) int64, corpus indices of the top answers, best first.
        top_scores: (Q, T) float64, their cosine similarities.
        sample: (S,) int64, the sampled queries, ascending.
        question_embeddings: (S, D) float32, their embeddings.
        answer_embeddings: (S, D) float32, the embedding of the first relevant answer of each.
    """

    task: str
    values: Tensor
    ranks: Tensor
    best_indices: Tensor
    best_scores: Tensor
    top_indices: Tensor
    top_scores: Tensor
    sample: Tensor
    question_embeddings: Tensor
    answer_embeddings: Tensor

    @property
    def ndcg(self) -> NDArray[np.float64]:
        """(Q,) nDCG@10 of each query."""
        return self.values[:, NAMES.index(PRIMARY)].numpy()

    def state_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {_STORED_AS.get(name, name): value for name, value in self._asdict().items()}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> QueryResults:
        """The results that :meth:`state_dict` was made of.

        Raises:
            ValueError: The state is not that of results; or a KeyError.
        """
        results = cls(**{name: state[_STORED_AS.get(name, name)] for name in cls._fields})
        if not isinstance(results.task, str) or not all(
            isinstance(values, Tensor) and values.dtype == _DTYPES.get(name, torch.int64)
            for name, values in results._asdict().items()
            if name != "task"
        ):
            raise ValueError("an evaluation's results are not tensors of numbers")
        n_queries, n_sample = len(results.ranks), len(results.sample)
        shapes = [tuple(values.shape) for values in results[1:]]
        top, width = shapes[4][-1:], shapes[7][-1:]
        if shapes != [
            (n_queries, len(NAMES)),
            *[(n_queries,)] * 3,
            *[(n_queries, *top)] * 2,
            (n_sample,),
            *[(n_sample, *width)] * 2,
        ]:
            raise ValueError("an evaluation's results do not fit each other")
        return results

    def fits(self, n_queries: int, n_documents: int) -> bool:
        """Whether the indices are those of a retrieval task of this size."""
        return len(self.ranks) == n_queries and all(
            not len(indices) or 0 <= int(indices.min()) <= int(indices.max()) < size
            for indices, size in (
                (self.best_indices, n_documents),
                (self.top_indices.flatten(), n_documents),
                (self.sample, n_queries),
                (self.ranks - 1, n_documents),
            )
        )


def task_name(task: RetrievalTask, data: str) -> str:
    """Identifies a retrieval task; corpus indices are only comparable within one task.

    Args:
        task: The queries and the corpus.
        data: Identifies the set of texts.
    """
    return f"{data}-{zlib.crc32(task.queries.data, zlib.crc32(task.corpus.data)):08x}"


def evaluate_queries(
    embeddings_XD: Tensor,
    task: RetrievalTask,
    name: str,
    local: slice,
    sum_over_ranks: Callable[[Tensor], Tensor],
) -> QueryResults:
    """Ranks the corpus for each query.

    Args:
        embeddings_XD: Embeddings of ``task.texts``.
        task: The queries, the corpus and the relevant documents.
        name: Name of the task, by :func:`task_name`.
        local: The queries that this rank evaluates.
        sum_over_ranks: Sums a tensor over the ranks.
    """
    texts = task.texts
    query_Q = torch.from_numpy(np.searchsorted(texts, task.queries))
    corpus_CD = embeddings_XD[torch.from_numpy(np.searchsorted(texts, task.corpus))]
    n_queries, top, n_metrics = len(query_Q), min(TOP, len(corpus_CD)), len(NAMES)
    # One row a query, zero for the queries of other ranks, so that their sum is the whole.
    numbers = torch.zeros(n_queries, n_metrics + 1 + top, dtype=torch.float64)
    indices = torch.zeros(n_queries, 2 + top, dtype=torch.int64)
    rankings = rank_documents(embeddings_XD[query_Q[local]], corpus_CD, task.relevant[local], top)
    for query, ranking in zip(range(n_queries)[local], rankings, strict=True):
        scores = torch.cat([ranking.best_score[None], ranking.top_scores]).cpu().double()
        numbers[query] = torch.cat([query_values(ranking.ranks), scores])
        indices[query] = torch.cat(
            [ranking.ranks[:1], ranking.best_index[None], ranking.top_indices]
        )
    numbers, indices = sum_over_ranks(numbers), sum_over_ranks(indices)
    sample = np.unique(np.linspace(0, n_queries - 1, SAMPLE).round().astype(np.int64))
    answers = torch.tensor([int(task.relevant[int(query)][0]) for query in sample])
    return QueryResults(
        task=name,
        values=numbers[:, :n_metrics].contiguous(),
        ranks=indices[:, 0].contiguous(),
        best_indices=indices[:, 1].contiguous(),
        best_scores=numbers[:, n_metrics].contiguous(),
        top_indices=indices[:, 2:].contiguous(),
        top_scores=numbers[:, n_metrics + 1 :].contiguous(),
        sample=torch.from_numpy(sample),
        question_embeddings=embeddings_XD[query_Q[sample]].float().cpu(),
        answer_embeddings=corpus_CD[answers].float().cpu(),
    )
