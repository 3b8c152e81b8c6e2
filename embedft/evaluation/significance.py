"""Whether a difference between two models is more than chance.

Questions of one file are alike, so a file, or whatever the split keeps together, counts as one
observation, not each of its questions.

Shape suffixes: Q queries, G groups, M metrics.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Groups = NDArray[np.int64]

LEVEL = 0.05
"""Error probability of intervals and tests."""
SPREAD = 0.2
"""Usual standard deviation of the difference of two models' nDCG@10 on a question."""
_EXACT = 14
"""Up to this many groups that changed, all assignments of signs are counted."""
_FLIPS = 9_999
"""Random assignments of signs for more groups."""


class Interval(NamedTuple):
    """A mean, or a mean difference, with its 95% confidence interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.4f}, 95% interval {self.low:+.4f} to {self.high:+.4f}"


class Gain(NamedTuple):
    """The mean difference of two models on the same queries, and how far chance could move it.

    Attributes:
        mean: Mean of ``after - before``.
        low: Lower bound of its 95% interval.
        high: Upper bound.
        p_value: Of the two-sided sign-flip test; None if it is not known (of earlier versions).
        up: Queries that are better after.
        down: Queries that are worse after.
        unchanged: Queries that are equal.
        groups: Groups that the queries come from.
    """

    mean: float
    low: float
    high: float
    p_value: float | None = None
    up: int | None = None
    down: int | None = None
    unchanged: int | None = None
    groups: int | None = None

    @property
    def interval(self) -> Interval:
        """The mean and its interval."""
        return Interval(self.mean, self.low, self.high)

    @property
    def is_significant(self) -> bool:
        """Whether interval and test both say that the difference is more than chance."""
        by_test = self.p_value is None or self.p_value < LEVEL
        return by_test and not self.low <= 0 <= self.high

    def __str__(self) -> str:
        text = str(self.interval)
        if self.p_value is not None:
            text += f", p = {self.p_value:.2g}"
        if self.up is not None:
            text += f"; {self.up} up, {self.down} down, {self.unchanged} unchanged"
        return text


def mean_intervals(values_QM: Values, groups_Q: Groups | None = None) -> list[Interval]:
    """The mean of each metric over all queries, with its 95% confidence interval.

    The standard error is that of a ratio, the sum over groups of their sums by the sum of their
    sizes (Cochran, 1977, Sampling Techniques, section 9A.2; with one query a group it is the usual
    one). The interval is Student's with G - 1 degrees of freedom. One group tells nothing: its
    interval is -1 to 1.

    Args:
        values_QM: M values of each query, from -1 to 1; at least one query.
        groups_Q: The group of each query, any numbers; None is a group for each query.
    """
    sums_GM, sizes_G = _by_group(values_QM, groups_Q)
    groups, mean_M = len(sizes_G), values_QM.mean(0)
    if groups == 1:
        return [Interval(float(mean), -1.0, 1.0) for mean in mean_M]
    residuals_GM = sums_GM - mean_M * sizes_G[:, np.newaxis]
    errors_M = np.sqrt(groups / (groups - 1) * np.square(residuals_GM).sum(0)) / len(values_QM)
    bound_M = _student_t(min(groups - 1, 1000)) * errors_M
    bounds = zip(
        mean_M, (mean_M - bound_M).clip(-1, 1), (mean_M + bound_M).clip(-1, 1), strict=True
    )
    return [Interval(*map(float, values)) for values in bounds]


def paired_interval(before_Q: Values, after_Q: Values, groups_Q: Groups | None = None) -> Interval:
    """The mean of ``after - before`` over queries, with its 95% interval.

    Args:
        before_Q: A metric of each query by one model.
        after_Q: The same of the other model, in the same order; at least one query.
        groups_Q: As for :func:`mean_intervals`.

    Raises:
        ValueError: The two are not of the same queries.
    """
    return mean_intervals(_differences(before_Q, after_Q)[:, np.newaxis], groups_Q)[0]


def paired_gain(before_Q: Values, after_Q: Values, groups_Q: Groups | None = None) -> Gain:
    """The gain of one model over another: interval, test and counts.

    Args:
        before_Q: A metric of each query by one model.
        after_Q: The same of the other model, in the same order; at least one query.
        groups_Q: As for :func:`mean_intervals`.

    Raises:
        ValueError: The two are not of the same queries.
    """
    differences_Q = _differences(before_Q, after_Q)
    up, down = int((differences_Q > 0).sum()), int((differences_Q < 0).sum())
    return Gain(
        *paired_interval(before_Q, after_Q, groups_Q),
        p_value=sign_flip_p_value(differences_Q, groups_Q),
        up=up,
        down=down,
        unchanged=len(differences_Q) - up - down,
        groups=len(differences_Q) if groups_Q is None else len(np.unique(groups_Q)),
    )


def sign_flip_p_value(differences_Q: Values, groups_Q: Groups | None = None) -> float:
    """The two-sided p-value of a paired permutation test that exchanges the models by group.

    If both models are equally good, each group's sum of differences is as likely with the other
    sign (Fisher, 1935; for retrieval: Smucker et al., 2007). Exact for few groups; else from 9,999
    random exchanges, the observed one counted (Phipson and Smyth, 2010).

    Args:
        differences_Q: ``after - before`` of each query.
        groups_Q: As for :func:`mean_intervals`.
    """
    sums_G = _by_group(differences_Q[:, np.newaxis], groups_Q)[0][:, 0]
    sums_G = sums_G[np.abs(sums_G) > 1e-12]
    observed = abs(sums_G.sum()) - 1e-9  # so that rounding makes no equal sum smaller
    if len(sums_G) <= _EXACT:
        bits = np.arange(2 ** len(sums_G))[:, np.newaxis] >> np.arange(len(sums_G)) & 1
        return float((np.abs((1 - 2 * bits) @ sums_G) >= observed).mean())
    rng = np.random.default_rng(0)
    signs = rng.integers(0, 2, size=(_FLIPS, len(sums_G)), dtype=np.int8) * 2 - 1
    reached = int((np.abs(signs @ sums_G) >= observed).sum())
    return (reached + 1) / (_FLIPS + 1)


def detectable_gain(queries: int, groups: int) -> float:
    """About the smallest gain of nDCG@10 that would be significant: half of its interval.

    Args:
        queries: Held-out queries.
        groups: That they come from; with one, no gain is.
    """
    if groups < 2:
        return 1.0
    return min(1.0, _student_t(min(groups - 1, 1000)) * SPREAD / math.sqrt(queries))


def _differences(before_Q: Values, after_Q: Values) -> Values:
    if before_Q.shape != after_Q.shape or before_Q.ndim != 1 or not len(before_Q):
        raise ValueError(f"two (Q,) arrays are compared, got {before_Q.shape}, {after_Q.shape}")
    return after_Q - before_Q


def _by_group(values_QM: Values, groups_Q: Groups | None) -> tuple[Values, Values]:
    """(G, M) sums and (G,) sizes of the groups."""
    if groups_Q is None:
        return values_QM, np.ones(len(values_QM))
    _, index_Q, sizes_G = np.unique(groups_Q, return_inverse=True, return_counts=True)
    sums_GM = np.zeros((len(sizes_G), values_QM.shape[1]))
    np.add.at(sums_GM, index_Q, values_QM)
    return sums_GM, sizes_G.astype(np.float64)


@cache
def _student_t(freedom: int) -> float:
    """The 97.5% quantile of Student's t, by bisection of its integral (1e-6)."""
    low, high = 1.9, 13.0
    while high - low > 1e-7:
        middle = (low + high) / 2
        low, high = (middle, high) if _tail(middle, freedom) > LEVEL / 2 else (low, middle)
    return high


def _tail(t: float, freedom: int) -> float:
    """The probability that Student's t is above ``t``: an integral over an angle."""
    angle = np.linspace(math.atan(t / math.sqrt(freedom)), math.pi / 2, 4001)
    density = np.cos(angle) ** (freedom - 1)
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2))
    return float(np.trapezoid(density, angle) * scale / math.sqrt(math.pi))
