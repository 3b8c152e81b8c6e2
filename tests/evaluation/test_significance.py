from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from embedft.evaluation.significance import (
    Gain,
    Interval,
    mean_intervals,
    paired_gain,
    paired_interval,
    sign_flip_p_value,
)

LEVELS = np.array([1, 0.63, 0.5, 0.43, 0.39, 0.36, 0.33, 0.32, 0.3, 0.29, 0])  # nDCG@10 by rank


def values(seed: int, queries: int = 300) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    before = rng.random(queries)
    return before, (before + rng.normal(0.05, 0.3, queries)).clip(0, 1)


@pytest.mark.parametrize("queries", [2, 3, 10, 300, 5000])
def test_without_groups_the_interval_is_that_of_a_paired_t_test(queries: int) -> None:
    before, after = values(queries, queries)
    interval = paired_interval(before, after)
    expected = stats.ttest_rel(after, before).confidence_interval(0.95)
    assert interval.mean == pytest.approx((after - before).mean(), abs=1e-12)
    assert interval.low == pytest.approx(max(-1, expected.low), rel=2e-3, abs=1e-6)
    assert interval.high == pytest.approx(min(1, expected.high), rel=2e-3, abs=1e-6)


def test_groups_of_equal_size_are_as_good_as_their_means() -> None:
    before, after = values(1)
    groups = np.arange(300) // 6
    means = (after - before).reshape(50, 6).mean(1)
    expected = stats.ttest_1samp(means, 0).confidence_interval(0.95)
    interval = paired_interval(before, after, groups[::-1].copy())
    assert interval[1:] == pytest.approx((expected.low, expected.high), rel=1e-4)


def test_groups_of_unequal_size_by_a_regression_with_clustered_errors() -> None:
    """The sandwich estimator of a regression on a constant, written out as matrices."""
    rng = np.random.default_rng(2)
    groups = rng.integers(0, 12, 200)
    difference = rng.normal(0.1, 0.3, 200) + rng.normal(0, 0.2, 12)[groups]
    design = np.ones((200, 1))
    bread = np.linalg.inv(design.T @ design)
    residual = difference - difference.mean()
    scores = [design[groups == g].T @ residual[groups == g] for g in range(12)]
    meat = sum(np.outer(score, score) for score in scores) * 12 / 11
    error = float(np.sqrt((bread @ meat @ bread)[0, 0]))
    interval = paired_interval(np.zeros(200), difference, groups)
    bound = stats.t.ppf(0.975, 11) * error
    assert interval == pytest.approx(
        (difference.mean(), difference.mean() - bound, difference.mean() + bound), rel=1e-4
    )


def drawn(rng: np.random.Generator, files: int) -> tuple[np.ndarray, np.ndarray]:
    """Differences of nDCG@10 that are mostly zero, and alike within a file; and the files."""
    sizes = 1 + rng.poisson(4, files)
    groups = np.repeat(np.arange(files), sizes)
    changes = rng.random(len(groups)) > rng.beta(3.0, 1.0, files)[groups]  # 3 of 4 are equal
    is_up = rng.random(len(groups)) < rng.beta(2.0, 1.2, files)[groups]
    pair = LEVELS[rng.integers(0, len(LEVELS), (2, len(groups)))]
    size = np.abs(pair[0] - pair[1]) * changes
    return np.where(is_up, size, -size), groups


@pytest.mark.parametrize("files", [20, 60])
def test_95_of_100_intervals_cover_the_true_gain(files: int) -> None:
    """Between 93% and 97% of 3,000 runs; if questions counted one by one it would be fewer."""
    rng = np.random.default_rng(files)
    many, _ = drawn(rng, 400_000)
    truth = many.mean()
    covers, covers_by_question = [], []
    for _ in range(3000):
        difference, groups = drawn(rng, files)
        zeros = np.zeros(len(difference))
        _, low, high = paired_interval(zeros, difference, groups)
        covers.append(low <= truth <= high)
        _, low, high = paired_interval(zeros, difference)
        covers_by_question.append(low <= truth <= high)
    assert 0.93 < np.mean(covers) < 0.97
    assert np.mean(covers_by_question) < 0.935


@pytest.mark.parametrize("files", [10, 40])
def test_equal_models_are_rarely_called_different(files: int) -> None:
    """At most 5%, here with signs at random, by interval and test together."""
    rng = np.random.default_rng(files)
    significant = []
    for _ in range(1000):
        difference, groups = drawn(rng, files)
        difference *= rng.choice([-1, 1], files)[groups]
        significant.append(paired_gain(np.zeros(len(groups)), difference, groups).is_significant)
    assert np.mean(significant) < 0.06


def test_few_changed_questions_are_chance() -> None:
    """5 up and 2 down of 90: an exact test counts all 128 assignments of signs."""
    difference = np.zeros(90)
    difference[:7] = [0.9, 0.8, 0.7, 0.6, 0.5, -0.1, -0.2]
    gain = paired_gain(np.zeros(90), difference)
    totals = [abs(np.dot(signs, difference[:7])) for signs in itertools.product([1, -1], repeat=7)]
    expected = np.mean(np.array(totals) >= difference.sum() - 1e-9)
    assert gain.p_value == pytest.approx(expected)
    assert (gain.up, gain.down, gain.unchanged, gain.groups) == (5, 2, 83, 90)
    assert gain.low > 0
    assert gain.p_value is not None
    assert gain.p_value > 0.05
    assert not gain.is_significant  # both must agree


def test_the_random_test_is_near_scipy() -> None:
    before, after = values(4, 60)
    expected = stats.permutation_test(
        (after - before,), np.mean, permutation_type="samples", n_resamples=20_000, rng=0
    ).pvalue
    assert sign_flip_p_value(after - before) == pytest.approx(expected, abs=0.01)


def test_one_file_tells_nothing() -> None:
    before, after = values(5)
    gain = paired_gain(before, after, np.zeros(300, dtype=np.int64))
    assert (gain.low, gain.high, gain.p_value, gain.groups) == (-1, 1, 1.0, 1)
    assert paired_interval(np.array([0.25]), np.array([1.0])) == Interval(0.75, -1, 1)


def test_equal_models_have_no_gain() -> None:
    before, _ = values(6)
    gain = paired_gain(before, before)
    assert gain == Gain(0, 0, 0, 1.0, 0, 0, 300, 300)
    assert not gain.is_significant


def test_pairing_makes_small_gains_significant() -> None:
    before = np.random.default_rng(5).random(200)
    assert paired_gain(before, before + 0.01).is_significant
    assert paired_interval(before, np.roll(before, 1) + 0.01).low < 0


@pytest.mark.parametrize("after", [np.zeros(3), np.zeros((2, 1)), np.zeros(0)])
def test_arrays_of_different_shapes_are_refused(after: np.ndarray) -> None:
    with pytest.raises(ValueError, match="are compared"):
        paired_interval(np.zeros(0) if not len(after) else np.zeros(2), after)


def test_in_words() -> None:
    gain = Gain(0.05, -0.01, 0.11, 0.0312, 5, 2, 83, 10)
    assert str(gain.interval) == "+0.0500, 95% interval -0.0100 to +0.1100"
    assert str(gain) == (
        "+0.0500, 95% interval -0.0100 to +0.1100, p = 0.031; 5 up, 2 down, 83 unchanged"
    )
    assert str(Gain(0.05, -0.01, 0.11)) == str(gain.interval)  # of an earlier version


def test_intervals_of_several_metrics_are_those_of_each() -> None:
    several = np.random.default_rng(0).random((30, 3))
    groups = np.arange(30) // 2
    for column, interval in enumerate(mean_intervals(several, groups)):
        alone = paired_interval(np.zeros(30), several[:, column], groups)
        assert interval == pytest.approx(alone)
