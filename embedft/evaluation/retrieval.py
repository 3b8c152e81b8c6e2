"""Exact search in blocks: from embeddings to the ranks of the right answers, and the top answers.

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
MANY = 32  # right answers of a query, from which on sorting is faster and takes less memory


class Relevant(Sequence[NDArray[np.int64]]):
    """For each query an array of positions, kept in two arrays and no object a query.

    Args:
        places: The positions of all queries, those of one query together.
        offsets: (queries + 1,) those of query i are ``places[offsets[i]:offsets[i + 1]]``.
        queries: Which of them, in which order; None for all.
    """

    def __init__(
        self,
        places: NDArray[np.int64],
        offsets: NDArray[np.int64],
        queries: NDArray[np.int64] | None = None,
    ) -> None:
        self.places, self.offsets = places, offsets
        self.queries = np.arange(len(offsets) - 1) if queries is None else queries

    def __len__(self) -> int:
        return len(self.queries)

    @overload
    def __getitem__(self, index: int) -> NDArray[np.int64]: ...

    @overload
    def __getitem__(self, index: slice) -> Relevant: ...

    def __getitem__(self, index: int | slice) -> NDArray[np.int64] | Relevant:
        if isinstance(index, slice):
            return Relevant(self.places, self.offsets, self.queries[index])
        query = self.queries[index]
        return self.places[self.offsets[query] : self.offsets[query + 1]]


@dataclass(frozen=True, slots=True)
class RetrievalTask:
    """Which texts are searched for in which.

    Attributes:
        queries: (queries,) text indices of the distinct held-out questions.
        corpus: (documents,) text indices of all distinct answers of the set.
        corpus_keys: (documents,) ascending keys of those answers: equal texts (normalised) of the
            set have one key, and one document.
        relevant: For each query the positions in ``corpus`` of its right answers, at least one.
        rows: (queries,) which good row of its file the query is of, from 0.
    """

    queries: NDArray[np.int64]
    corpus: NDArray[np.int64]
    corpus_keys: NDArray[np.int64]
    relevant: Sequence[NDArray[np.int64]]
    rows: NDArray[np.int64]

    @property
    def texts(self) -> NDArray[np.int64]:
        """(texts,) the distinct texts to embed, ascending."""
        return np.unique(np.concatenate([self.queries, self.corpus]))


class Found(NamedTuple):
    """What the search for one query found.

    Attributes:
        ranks: (R,) int64, the ascending ranks, from 1, of its relevant documents.
        place: (), int64, its best relevant document.
        score: (), the cosine similarity of that.
        top_scores: (T,) the highest cosine similarities, descending.
        top_places: (T,) int64, the documents they are of; equal scores in corpus order.
    """

    ranks: Tensor
    place: Tensor
    score: Tensor
    top_scores: Tensor
    top_places: Tensor


def search(
    queries_QD: Tensor, corpus_CD: Tensor, relevant: Sequence[NDArray[np.int64]], top: int = 1
) -> Iterator[Found]:
    """Yields for each query where its relevant documents rank, and what ranks first.

    Similarity is the cosine, computed in float32 or better, a block of queries at a time. Equal
    scores rank in corpus order, so the result is the same on every run.

    Args:
        queries_QD: Query embeddings, any length.
        corpus_CD: Document embeddings, any length.
        relevant: For each query the indices of its relevant documents.
        top: T, at most C are found.
    """
    corpus_CD = _unit(corpus_CD)
    for start in range(0, len(queries_QD), QUERY_BLOCK):
        with torch.autocast(corpus_CD.device.type, enabled=False):  # would round to bf16
            scores_QC = _unit(queries_QD[start : start + QUERY_BLOCK]) @ corpus_CD.T
        least_Q = scores_QC.topk(min(top, len(corpus_CD)), dim=1).values[:, -1]
        rows = zip(scores_QC, least_Q, relevant[start : start + QUERY_BLOCK], strict=True)
        for scores_C, least, right in rows:
            right_R = torch.from_numpy(right).to(scores_C.device)
            score_R = scores_C[right_R]
            first = (scores_C >= least).nonzero().squeeze(1)  # of equal scores too many
            first_T = scores_C[first].sort(descending=True, stable=True)
            yield Found(
                _ranks(scores_C, right_R).sort().values,
                right_R[score_R.argmax()],
                score_R.max(),
                first_T.values[:top],
                first[first_T.indices[:top]],
            )


def _ranks(scores_C: Tensor, right_R: Tensor) -> Tensor:
    """(R,) ranks from 1 of some documents; equal scores rank in corpus order."""
    if len(right_R) > MANY:  # each is compared with each document: R·C, where sorting is C·log C
        rank_C = torch.empty(len(scores_C), dtype=torch.int64, device=scores_C.device)
        order_C = scores_C.argsort(descending=True, stable=True)
        rank_C[order_C] = torch.arange(1, len(scores_C) + 1, device=scores_C.device)
        return rank_C[right_R]
    places = torch.arange(len(scores_C), device=scores_C.device)
    score_R1, right_R1 = scores_C[right_R].unsqueeze(1), right_R.unsqueeze(1)
    ahead_RC = (scores_C > score_R1) | ((scores_C == score_R1) & (places < right_R1))
    return ahead_RC.sum(dim=1) + 1


def _unit(vectors: Tensor) -> Tensor:
    dtype = torch.promote_types(vectors.dtype, torch.float32)
    return torch.nn.functional.normalize(vectors.to(dtype), dim=-1)
