from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from embedft.evaluation import bootstrap as module
from embedft.evaluation.bootstrap import Interval, bootstrap, paired_bootstrap


def values(seed: int, queries: int = 300) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    before = rng.random(queries)
    return before, (before + rng.normal(0.05, 0.3, queries)).clip(0, 1)


@pytest.mark.parametrize("seed", range(3))
def test_interval_is_that_of_scipy(seed: int) -> None:
    before, after = values(seed)
    interval = paired_bootstrap(before, after)
    expected = stats.bootstrap(
        (after - before,), np.mean, n_resamples=20_000, method="percentile", rng=seed
    ).confidence_interval
    width = expected.high - expected.low
    assert interval.mean == pytest.approx((after - before).mean(), abs=1e-12)
    assert interval.low == pytest.approx(expected.low, abs=0.08 * width)
    assert interval.high == pytest.approx(expected.high, abs=0.08 * width)


@pytest.mark.parametrize("queries", [2, 3, 5, 10, 30])
def test_few_queries_are_rarely_significant_by_chance(queries: int) -> None:
    """The plain bootstrap calls chance a gain in 27% of the cases by 2 queries, in 5% by 10."""
    rng = np.random.default_rng(6)
    noise = rng.normal(0, 0.2, (1000, queries)).clip(-1, 1)
    intervals = [paired_bootstrap(np.zeros(queries), differences) for differences in noise]
    outside = np.mean([interval.low > 0 or interval.high < 0 for interval in intervals])
    assert outside == pytest.approx(0.05, abs=0.03)


def test_intervals_are_widened_as_by_student_t() -> None:
    for queries in (2, 3, 8, 40, 400):
        expected = stats.t.ppf(0.975, queries - 1) / stats.norm.ppf(0.975)
        expected *= np.sqrt(queries / (queries - 1))
        assert module._widening(queries) == pytest.approx(expected, rel=0.005)


def test_one_query_gives_the_widest_interval() -> None:
    assert paired_bootstrap(np.array([0.25]), np.array([1.0])) == Interval(0.75, -1, 1)


def test_blocks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = values(3)
    whole = paired_bootstrap(before, after)
    monkeypatch.setattr(module, "_BLOCK", 1000)
    assert paired_bootstrap(before, after) == whole


def test_equal_models_have_no_gain() -> None:
    before, _ = values(4)
    assert paired_bootstrap(before, before) == Interval(0, 0, 0)


def test_pairing_makes_small_gains_significant() -> None:
    before = np.random.default_rng(5).random(200)
    assert paired_bootstrap(before, before + 0.01).low > 0
    assert paired_bootstrap(before, np.roll(before, 1) + 0.01).low < 0


@pytest.mark.parametrize("after", [np.zeros(3), np.zeros((2, 1)), np.zeros(0)])
def test_arrays_of_different_shapes_are_refused(after: np.ndarray) -> None:
    with pytest.raises(ValueError, match="are compared"):
        paired_bootstrap(np.zeros(0) if not len(after) else np.zeros(2), after)


def test_in_words() -> None:
    assert str(Interval(0.05, -0.01, 0.11)) == "+0.0500, 95% interval -0.0100 to +0.1100"


def test_bootstrap_of_several_metrics_is_that_of_each() -> None:
    values = np.random.default_rng(0).random((30, 3))
    for column, interval in enumerate(bootstrap(values)):
        single = paired_bootstrap(np.zeros(30), values[:, column])
        assert interval == pytest.approx(single, abs=0.02)
        assert interval.low < interval.mean < interval.high
