"""Exact search in blocks: from embeddings to the ranks of the relevant and the top documents.

Shape suffixes: Q queries of a block, C corpus documents, D embedding, R relevant documents of one
query, T top documents.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

QUERY_BLOCK = 128
SORT_ABOVE = 32  # relevant documents of a query above which sorting is faster and takes less memory


class Relevant(Sequence[NDArray[np.int64]]):
    """The corpus indices relevant to each query, kept in two arrays rather than one per query.

    Args:
        indices: The indices of all queries, those of one query together.
        offsets: (queries + 1,) those of query i are ``indices[offsets[i]:offsets[i + 1]]``.
        queries: A selection of the queries, in its order; None for all.
    """

    def __init__(
        self,
        indices: NDArray[np.int64],
        offsets: NDArray[np.int64],
        queries: NDArray[np.int64] | None = None,
    ) -> None:
        self.indices, self.offsets = indices, offsets
        self.queries = np.arange(len(offsets) - 1) if queries is None else queries

    def __len__(self) -> int:
        return len(self.queries)

    @overload
    def __getitem__(self, index: int) -> NDArray[np.int64]: ...

    @overload
    def __getitem__(self, index: slice) -> Relevant: ...

    def __getitem__(self, index: int | slice) -> NDArray[np.int64] | Relevant:
        if isinstance(index, slice):
            return Relevant(self.indices, self.offsets, self.queries[index])
        query = self.queries[index]
        return self.indices[self.offsets[query] : self.offsets[query + 1]]


@dataclass(frozen=True, slots=True)
class RetrievalTask:
    """The queries, the corpus they are searched in, and the relevant documents.

    Attributes:
        queries: (queries,) text indices of the distinct held-out questions.
        corpus: (documents,) text indices of all distinct answers of the set.
        corpus_ids: (documents,) ascending ids of those answers. Equal normalised texts have the
            same id and are one document.
        relevant: For each query the corpus indices of its relevant answers, at least one.
        source_rows: (queries,) index, from 0, of the good row of the file that holds the query.
        groups: (queries,) equal for queries that are not independent, because they are tied by a
            file, a question or an answer.
    """

    queries: NDArray[np.int64]
    corpus: NDArray[np.int64]
    corpus_ids: NDArray[np.int64]
    relevant: Sequence[NDArray[np.int64]]
    source_rows: NDArray[np.int64]
    groups: NDArray[np.int64]

    @property
    def texts(self) -> NDArray[np.int64]:
        """(texts,) the distinct texts to embed, ascending."""
        return np.unique(np.concatenate([self.queries, self.corpus]))


class Ranking(NamedTuple):
    """How the corpus ranks for one query.

    Attributes:
        ranks: (R,) int64, ascending ranks, from 1, of the relevant documents.
        best_index: (), int64, the best relevant document.
        best_score: (), its cosine similarity.
        top_scores: (T,) the highest cosine similarities, descending.
        top_indices: (T,) int64, their documents; equal scores in corpus order.
    """

    ranks: Tensor
    best_index: Tensor
    best_score: Tensor
    top_scores: Tensor
    top_indices: Tensor


def rank_documents(
    queries_QD: Tensor, corpus_CD: Tensor, relevant: Sequence[NDArray[np.int64]], top: int = 1
) -> Iterator[Ranking]:
    """Yields the ranks of the relevant documents and the top documents of each query.

    The score is the cosine similarity, computed in float32 or better, a block of queries at a time.
    Equal scores rank in corpus order, so the result is the same on every run.

    Args:
        queries_QD: Query embeddings of any length.
        corpus_CD: Document embeddings of any length.
        relevant: For each query the indices of its relevant documents.
        top: T; at most C.
    """
    corpus_CD = _unit(corpus_CD)
    for start in range(0, len(queries_QD), QUERY_BLOCK):
        with torch.autocast(corpus_CD.device.type, enabled=False):  # would round to bf16
            scores_QC = _unit(queries_QD[start : start + QUERY_BLOCK]) @ corpus_CD.T
        threshold_Q = scores_QC.topk(min(top, len(corpus_CD)), dim=1).values[:, -1]
        rows = zip(scores_QC, threshold_Q, relevant[start : start + QUERY_BLOCK], strict=True)
        for scores_C, threshold, indices in rows:
            relevant_R = torch.from_numpy(indices).to(scores_C.device)
            score_R = scores_C[relevant_R]
            # Ties at the threshold can give more than T candidates; the stable sort decides.
            candidates = (scores_C >= threshold).nonzero().squeeze(1)
            ordered = scores_C[candidates].sort(descending=True, stable=True)
            yield Ranking(
                _ranks(scores_C, relevant_R).sort().values,
                relevant_R[score_R.argmax()],
                score_R.max(),
                ordered.values[:top],
                candidates[ordered.indices[:top]],
            )


def _ranks(scores_C: Tensor, relevant_R: Tensor) -> Tensor:
    """(R,) ranks, from 1, of the relevant documents; equal scores rank in corpus order."""
    index_C = torch.arange(len(scores_C), device=scores_C.device)
    if len(relevant_R) > SORT_ABOVE:  # comparing each with all costs R·C, sorting C·log C
        rank_C = torch.empty_like(index_C)
        rank_C[scores_C.argsort(descending=True, stable=True)] = index_C + 1
        return rank_C[relevant_R]
    score_R1, relevant_R1 = scores_C[relevant_R].unsqueeze(1), relevant_R.unsqueeze(1)
    ahead_RC = (scores_C > score_R1) | ((scores_C == score_R1) & (index_C < relevant_R1))
    return ahead_RC.sum(dim=1) + 1


def _unit(vectors: Tensor) -> Tensor:
    dtype = torch.promote_types(vectors.dtype, torch.float32)
    return torch.nn.functional.normalize(vectors.to(dtype), dim=-1)
