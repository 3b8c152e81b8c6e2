"""Confidence intervals for metrics and for the difference between two models.

Shape suffixes: Q queries, R resamples, M metrics.
"""

from __future__ import annotations

import math
from functools import cache
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
_BLOCK = 4_000_000  # values drawn at a time, which bounds the memory


class Interval(NamedTuple):
    """A mean, or a mean difference, with its 95% confidence interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.4f}, 95% interval {self.low:+.4f} to {self.high:+.4f}"


def bootstrap(values_QM: NDArray[np.float64], seed: int = 0) -> list[Interval]:
    """The mean of each metric over queries, with its 95% confidence interval.

    Queries are drawn with replacement, each with all of its values. The interval holds the middle
    95% of 2,000 such means (percentile bootstrap: Efron and Tibshirani, 1993, chapter 13). That is
    too narrow for few queries (Hesterberg, 2015, arXiv:1411.5279), so its bounds are moved away
    from the mean by the ratio of Student's t to the normal distribution. The interval of a single
    query is -1 to 1.

    Args:
        values_QM: M values of each query, from -1 to 1; at least one query.
        seed: Seed of the resampling.
    """
    rng = np.random.default_rng(seed)
    queries = len(values_QM)
    block = max(1, _BLOCK // values_QM.size)
    means_RM = np.concatenate(
        [
            values_QM[rng.integers(queries, size=(min(block, RESAMPLES - done), queries))].mean(1)
            for done in range(0, RESAMPLES, block)
        ]
    )
    mean_M = values_QM.mean(0)
    bounds_2M = np.quantile(means_RM, [0.025, 0.975], axis=0)
    if queries > 1:
        bounds_2M = (mean_M + _widening(queries) * (bounds_2M - mean_M)).clip(-1, 1)
    else:
        bounds_2M = np.array([[-1.0], [1.0]]).repeat(len(mean_M), axis=1)
    columns = zip(mean_M, *bounds_2M, strict=True)
    return [Interval(float(mean), float(low), float(high)) for mean, low, high in columns]


@cache
def _widening(queries: int) -> float:
    """Factor by which the distance of the bounds from the mean grows for this many queries."""
    student_t = np.random.default_rng(0).standard_t(queries - 1, 1_000_000)
    bound = float(np.quantile(np.abs(student_t), 0.95))  # within 0.5%
    return bound / NormalDist().inv_cdf(0.975) * math.sqrt(queries / (queries - 1))


def paired_bootstrap(
    before_Q: NDArray[np.float64], after_Q: NDArray[np.float64], seed: int = 0
) -> Interval:
    """The mean of ``after - before`` over queries, with its 95% confidence interval.

    The differences are resampled, so that a query is drawn with both of its values (for retrieval:
    Sakai, 2006).

    Args:
        before_Q: A metric of each query by one model.
        after_Q: The same metric by the other model, in the same order; at least one query.
        seed: Seed of the resampling.

    Raises:
        ValueError: The arrays have different shapes.
    """
    if before_Q.shape != after_Q.shape or before_Q.ndim != 1 or not len(before_Q):
        raise ValueError(f"two (Q,) arrays are compared, got {before_Q.shape}, {after_Q.shape}")
    return bootstrap((after_Q - before_Q)[:, np.newaxis], seed)[0]
