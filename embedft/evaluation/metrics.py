"""Retrieval metrics, computed from the ranks of the relevant documents of a query.

With r_1 < r_2 < ... the ranks (from 1) of a query's R relevant documents and hits at k the number
of r_i <= k:

- recall@k = hits at k / R
- MRR@k = 1 / r_1 if r_1 <= k, else 0
- nDCG@k = sum over r_i <= k of 1 / log2(r_i + 1), over the same sum for r_i = i, i <= min(R, k)
  (binary gains; Järvelin and Kekäläinen, 2002)
- MAP@k = sum over r_i <= k of i / r_i, over min(R, k)

These are the definitions of sentence-transformers' ``InformationRetrievalEvaluator``.
Torchmetrics' own retrieval metrics ignore relevant documents scored at or below zero, as cosine
similarities often are; ranks do not depend on the sign of a score.

A new metric is one more entry at the end of :data:`METRICS`: it then appears in the logs, in
``metrics.json``, in the printed table, on the model card and in the report.

Shape suffixes: R relevant documents of one query, M metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric


def recall(ranks_R: Tensor, k: int) -> Tensor:
    """Share of the relevant documents that are among the first k."""
    return (ranks_R <= k).sum(dtype=ranks_R.dtype) / len(ranks_R)


def reciprocal_rank(ranks_R: Tensor, k: int) -> Tensor:
    """1 / rank of the first relevant document, 0 if it is not among the first k."""
    return torch.where(ranks_R[0] <= k, 1 / ranks_R[0], 0)


def ndcg(ranks_R: Tensor, k: int) -> Tensor:
    """Normalised discounted cumulative gain of the first k documents, with binary gains."""
    ideal_R = torch.arange(1, len(ranks_R) + 1, dtype=ranks_R.dtype)
    ideal = (1 / torch.log2(ideal_R[:k] + 1)).sum()
    return (1 / torch.log2(ranks_R + 1) * (ranks_R <= k)).sum() / ideal


def average_precision(ranks_R: Tensor, k: int) -> Tensor:
    """Mean precision at the ranks of the relevant documents that are among the first k."""
    hits_R = torch.arange(1, len(ranks_R) + 1, dtype=ranks_R.dtype)
    return (hits_R / ranks_R * (ranks_R <= k)).sum() / min(len(ranks_R), k)


class RetrievalMetric(NamedTuple):
    """One metric of a query.

    Attributes:
        name: Its key in logs and files.
        label: Its name in reports.
        of_query: From the ascending ranks (R,) float64 of the relevant documents, R >= 1, to a
            scalar in [0, 1].
    """

    name: str
    label: str
    of_query: Callable[[Tensor], Tensor]


METRICS = (
    RetrievalMetric("recall@1", "recall@1", partial(recall, k=1)),
    RetrievalMetric("recall@5", "recall@5", partial(recall, k=5)),
    RetrievalMetric("recall@10", "recall@10", partial(recall, k=10)),
    RetrievalMetric("mrr@10", "MRR@10", partial(reciprocal_rank, k=10)),
    RetrievalMetric("ndcg@10", "nDCG@10", partial(ndcg, k=10)),
    RetrievalMetric("map@100", "MAP@100", partial(average_precision, k=100)),
)
"""All metrics. Checkpoints store values in this order: add new ones at the end."""

NAMES = tuple(metric.name for metric in METRICS)
LABELS = {metric.name: metric.label for metric in METRICS}

PRIMARY = "ndcg@10"
"""The metric that chooses the best weights and that the verdict is about."""

_SHOWN_FIRST = (PRIMARY, "mrr@10")
SHOWN = (*_SHOWN_FIRST, *(name for name in NAMES if name not in _SHOWN_FIRST))
"""The order of the metrics in tables, on model cards and in reports."""

# Sums are kept as whole multiples of this: exact in any order and on any number of ranks.
UNIT = 2.0**-40


def query_values(ranks: Tensor) -> Tensor:
    """The metrics of one query.

    Args:
        ranks: (R,) int64 ascending ranks from 1 of all its relevant documents, R >= 1.

    Returns:
        (M,) float64 on the CPU, in the order of :data:`NAMES`.
    """
    ranks_R = ranks.cpu().double()  # not every accelerator has float64
    return torch.stack([metric.of_query(ranks_R).double() for metric in METRICS])


def shown_in(*evaluations: Mapping[str, Any]) -> list[str]:
    """The metrics that all evaluations have, in the order they are shown.

    Evaluations of an older run may lack newer metrics.
    """
    return [name for name in SHOWN if all(name in values for values in evaluations)]


class RetrievalMetrics(Metric):
    """Means of :data:`METRICS` over queries, synced over ranks."""

    full_state_update = False
    totals: Tensor
    queries: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("totals", torch.zeros(len(NAMES), dtype=torch.int64), "sum")
        self.add_state("queries", torch.zeros((), dtype=torch.int64), "sum")

    def update(self, values: Tensor) -> None:
        """Adds one query.

        Args:
            values: (M,) its metrics, by :func:`query_values`.
        """
        self.totals += (values / UNIT).round().long().to(self.totals.device)
        self.queries += 1

    def compute(self) -> dict[str, float]:
        """The means, each in [0, 1]; zeros if there was no query."""
        queries = max(1, int(self.queries))
        values = [total * UNIT / queries for total in self.totals.tolist()]
        return dict(zip(NAMES, values, strict=True))
