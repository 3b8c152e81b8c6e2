"""Retrieval metrics from the ranks of the right answers.

Torchmetrics' own retrieval metrics ignore right answers scored at or below zero, which cosine
similarities often are; ranks do not care about the sign of a score.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

RECALL_AT = (1, 5, 10)
NAMES = (*(f"recall@{k}" for k in RECALL_AT), "mrr@10", "ndcg@10", "map@100")

# Sums are kept as whole multiples of this: exact in any order and on any number of ranks.
UNIT = 2.0**-40


def query_values(ranks: Tensor) -> Tensor:
    """The metrics of one query.

    Args:
        ranks: (R,) int64 ascending ranks from 1 of all its relevant documents, R >= 1.

    Returns:
        (metrics,) float64 on the CPU, in the order of ``NAMES``.
    """
    ranks = ranks.cpu().double()  # not every accelerator has float64
    count = len(ranks)
    place = torch.arange(1, count + 1, dtype=torch.float64)
    gain = 1 / torch.log2(ranks + 1)
    ideal = (1 / torch.log2(place[:10] + 1)).sum()
    values = [(ranks <= k).sum() / count for k in RECALL_AT]
    values.append(torch.where(ranks[0] <= 10, 1 / ranks[0], 0))
    values.append((gain * (ranks <= 10)).sum() / ideal)
    values.append((place / ranks * (ranks <= 100)).sum() / min(count, 100))
    return torch.stack([value.double() for value in values])


class RetrievalMetrics(Metric):
    """Mean recall@{1,5,10}, MRR@10, nDCG@10 and MAP@100 over queries, synced over ranks.

    With r_1 < r_2 < ... the ranks (from 1) of a query's R relevant documents and hits at k the
    number of r_i <= k:

    - recall@k = hits at k / R
    - MRR@k = 1 / r_1 if r_1 <= k, else 0
    - nDCG@k = sum over r_i <= k of 1 / log2(r_i + 1), over the same sum for r_i = i, i <= min(R, k)
      (binary gains; Järvelin and Kekäläinen, 2002)
    - MAP@k = sum over r_i <= k of i / r_i, over min(R, k)

    These are the definitions of sentence-transformers' ``InformationRetrievalEvaluator``.
    """

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
            values: (metrics,) its values, by :func:`query_values`.
        """
        self.totals += (values / UNIT).round().long().to(self.totals.device)
        self.queries += 1

    def compute(self) -> dict[str, float]:
        """The means, each in [0, 1]; zeros where there was no query."""
        queries = max(1, int(self.queries))
        values = [total * UNIT / queries for total in self.totals.tolist()]
        return dict(zip(NAMES, values, strict=True))
