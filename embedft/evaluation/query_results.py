"""What an evaluation found, question by question: kept, so that no report searches again.

Shape suffixes: X texts, Q queries, C corpus documents, D embedding, M metrics, T top documents,
S queries of a sample.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedft.evaluation.metrics import NAMES, query_values
from embedft.evaluation.retrieval import RetrievalTask, search

TOP = 3
"""Answers that are kept for each question."""
SAMPLE = 500
"""Questions whose embeddings are kept, with that of one right answer of each."""


class Findings(NamedTuple):
    """What one model found; all on the CPU, and plain enough for a checkpoint by ``_asdict``.

    Attributes:
        task: Tells one retrieval task from another.
        values: (Q, M) float64, the metrics of each query, in the order of ``NAMES``.
        ranks: (Q,) int64, rank of the best right answer, from 1.
        places: (Q,) int64, its place in the corpus.
        scores: (Q,) float64, its cosine similarity.
        top_places: (Q, T) int64, places in the corpus of the top answers, best first.
        top_scores: (Q, T) float64, their cosine similarities.
        sample: (S,) int64, some queries, ascending.
        questions: (S, D) float32, their embeddings.
        answers: (S, D) float32, the embedding of the first right answer of each.
    """

    task: str
    values: Tensor
    ranks: Tensor
    places: Tensor
    scores: Tensor
    top_places: Tensor
    top_scores: Tensor
    sample: Tensor
    questions: Tensor
    answers: Tensor

    @property
    def ndcg(self) -> NDArray[np.float64]:
        """(Q,) nDCG@10 of each query."""
        return self.values[:, NAMES.index("ndcg@10")].numpy()


def task_name(task: RetrievalTask, data: str) -> str:
    """Tells one task from another: places in a corpus mean nothing in another one.

    Args:
        task: What is searched in what.
        data: Tells one set of texts from another.
    """
    return f"{data}-{zlib.crc32(task.queries.data, zlib.crc32(task.corpus.data)):08x}"


def find(
    embeddings_XD: Tensor,
    task: RetrievalTask,
    name: str,
    mine: slice,
    total: Callable[[Tensor], Tensor],
) -> Findings:
    """Searches the answers of each question.

    Args:
        embeddings_XD: Of ``task.texts``.
        task: What is searched in what.
        name: Of the task, by :func:`task_name`.
        mine: The queries that this rank searches for.
        total: Sums a tensor over the ranks.
    """
    texts = task.texts
    query_Q = torch.from_numpy(np.searchsorted(texts, task.queries))
    corpus_CD = embeddings_XD[torch.from_numpy(np.searchsorted(texts, task.corpus))]
    count, top = len(query_Q), min(TOP, len(corpus_CD))
    numbers = torch.zeros(count, len(NAMES) + 1 + top, dtype=torch.float64)
    places = torch.zeros(count, 2 + top, dtype=torch.int64)
    found = search(embeddings_XD[query_Q[mine]], corpus_CD, task.relevant[mine], top)
    for query, (ranks, place, score, top_scores, top_places) in zip(
        range(count)[mine], found, strict=True
    ):
        scores = torch.cat([score[None], top_scores]).cpu().double()
        numbers[query] = torch.cat([query_values(ranks), scores])
        places[query] = torch.cat([ranks[:1], place[None], top_places])
    numbers, places = total(numbers), total(places)
    sample = np.unique(np.linspace(0, count - 1, SAMPLE).round().astype(np.int64))
    answers = torch.tensor([int(task.relevant[int(query)][0]) for query in sample])
    metrics = len(NAMES)
    return Findings(
        task=name,
        values=numbers[:, :metrics].contiguous(),
        ranks=places[:, 0].contiguous(),
        places=places[:, 1].contiguous(),
        scores=numbers[:, metrics].contiguous(),
        top_places=places[:, 2:].contiguous(),
        top_scores=numbers[:, metrics + 1 :].contiguous(),
        sample=torch.from_numpy(sample),
        questions=embeddings_XD[query_Q[sample]].float().cpu(),
        answers=corpus_CD[answers].float().cpu(),
    )
