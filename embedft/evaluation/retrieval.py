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
    places = torch.arange(len(corpus_CD), device=corpus_CD.device)
    for start in range(0, len(queries_QD), QUERY_BLOCK):
        with torch.autocast(corpus_CD.device.type, enabled=False):  # would round to bf16
            scores_QC = _unit(queries_QD[start : start + QUERY_BLOCK]) @ corpus_CD.T
        top_places_QT = scores_QC.topk(min(top, len(corpus_CD)), dim=1).indices.sort(dim=1).values
        rows = zip(scores_QC, top_places_QT, relevant[start : start + QUERY_BLOCK], strict=True)
        for scores_C, top_places_T, right in rows:
            right_R = torch.from_numpy(right).to(scores_C.device)
            score_R1 = scores_C[right_R].unsqueeze(1)
            ahead_RC = (scores_C > score_R1) | (
                (scores_C == score_R1) & (places < right_R.unsqueeze(1))
            )
            top_T = scores_C[top_places_T].sort(descending=True, stable=True)
            yield Found(
                ahead_RC.sum(dim=1).add(1).sort().values,
                right_R[score_R1.argmax()],
                score_R1.max(),
                top_T.values,
                top_places_T[top_T.indices],
            )


def _unit(vectors: Tensor) -> Tensor:
    dtype = torch.promote_types(vectors.dtype, torch.float32)
    return torch.nn.functional.normalize(vectors.to(dtype), dim=-1)
