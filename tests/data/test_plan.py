from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from embedft.data.plan import GrowingSet, plan_epoch
from embedft.table.keys import connected


def keys(values: list[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    return np.unique(np.asarray(values, dtype=np.int64), return_inverse=True)[1]


def check_plan(plan: Any, anchor: Any, positive: Any, size: int) -> None:
    for index in range(len(plan)):
        batch = plan[index]
        assert 1 <= len(batch) <= size
        assert len(set(anchor[batch])) == len(batch)
        assert len(set(positive[batch])) == len(batch)


pairs_of_keys = st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), min_size=1, max_size=80)


@given(pairs_of_keys, st.integers(1, 9), st.integers(0, 3), st.integers(0, 3))
def test_each_row_once_and_no_text_twice(
    rows: list[tuple[int, int]], size: int, seed: int, epoch: int
) -> None:
    anchor, positive = keys([a for a, _ in rows]), keys([b for _, b in rows])
    plan = plan_epoch(anchor, positive, batch_size=size, seed=seed, epoch=epoch)
    check_plan(plan, anchor, positive, size)
    assert sorted(plan.pairs) == list(range(len(rows)))


@given(pairs_of_keys, st.integers(1, 9), st.floats(0, 0.9))
def test_waiting_rows_take_turns(
    rows: list[tuple[int, int]], size: int, max_left_out: float
) -> None:
    anchor, positive = keys([a for a, _ in rows]), keys([b for _, b in rows])

    def planned(epoch: int, max_left_out: float) -> Any:
        return plan_epoch(
            anchor, positive, batch_size=size, seed=1, epoch=epoch, max_left_out=max_left_out
        )

    plans = [planned(epoch, max_left_out) for epoch in range(3)]
    whole = planned(0, 0.0)
    for plan in plans:
        check_plan(plan, anchor, positive, size)
        assert len(set(plan.pairs)) == len(plan.pairs) >= (1 - max_left_out) * len(rows)
        assert len(plan) <= len(whole) or len(plan.pairs) == len(rows)


def test_a_frequent_text_does_not_make_batches_small() -> None:
    """As in MedQuAD: without a row that waits there would be 100 batches of 10 or 11."""
    anchor = np.arange(1000)
    positive = keys(np.where(anchor < 100, 0, anchor))
    seen = np.zeros(1000, dtype=np.int64)
    for epoch in range(2):
        plan = plan_epoch(anchor, positive, batch_size=16, seed=0, epoch=epoch, max_left_out=0.05)
        check_plan(plan, anchor, positive, 16)
        assert (len(plan), len(plan.pairs)) == (63, 1000 - 37)
        assert np.diff(plan.offsets).min() >= 15
        seen[plan.pairs] += 1
    assert seen[100:].tolist() == [2] * 900
    assert seen[:100].min() == 1
    assert len(plan_epoch(anchor, positive, batch_size=16, seed=0, epoch=0)) == 100
    few = plan_epoch(anchor, positive, batch_size=16, seed=0, epoch=0, max_left_out=0.01)
    assert (len(few), len(few.pairs)) == (90, 990)


@pytest.mark.parametrize("rows", [1, 2, 7, 8, 9, 63, 64, 65, 1000])
@pytest.mark.parametrize("size", [1, 2, 8, 64])
def test_length_is_exact_without_ties(rows: int, size: int) -> None:
    plan = plan_epoch(np.arange(rows), np.arange(rows), batch_size=size, seed=0, epoch=0)
    assert len(plan) == -(-rows // size)
    assert [len(plan[i]) for i in range(len(plan) - 1)] == [size] * (len(plan) - 1)


def test_plan_is_a_function_of_seed_and_epoch() -> None:
    def rows(seed: int, epoch: int) -> list[int]:
        ids = np.arange(100)
        plan = plan_epoch(ids, ids, batch_size=8, seed=seed, epoch=epoch)
        return [int(row) for row in plan.pairs]

    assert rows(1, 2) == rows(1, 2)
    assert len({tuple(rows(seed, epoch)) for seed in range(4) for epoch in range(4)}) == 16


def test_a_text_in_every_row() -> None:
    plan = plan_epoch(np.zeros(50, np.int64), np.arange(50), batch_size=16, seed=0, epoch=0)
    assert [len(plan[i]) for i in range(len(plan))] == [1] * 50


def test_a_component_of_thousands_is_planned_in_full_batches() -> None:
    rng = np.random.default_rng(0)
    anchor, positive = (
        keys(rng.integers(0, 9000, 20_000).tolist()),
        keys(rng.integers(0, 9000, 20_000).tolist()),
    )
    assert np.bincount(connected(anchor, positive)).max() > 15_000
    plan = plan_epoch(anchor, positive, batch_size=64, seed=0, epoch=0)
    check_plan(plan, anchor, positive, 64)
    assert len(plan) <= 1.02 * 20_000 / 64


@pytest.mark.parametrize(
    ("anchors", "positives"), [(60, 700), (2, 70_000), (1, 200_000), (3000, 3000), (450, 448)]
)
def test_frequent_texts_are_kept_apart_in_few_more_batches(anchors: int, positives: int) -> None:
    """A search of all rows for each clash would take minutes here."""
    rng = np.random.default_rng(0)
    rows = 200_000
    anchor, positive = keys(rng.integers(0, anchors, rows)), keys(rng.integers(0, positives, rows))
    plan = plan_epoch(anchor, positive, batch_size=64, seed=0, epoch=0)
    assert np.array_equal(np.sort(plan.pairs), np.arange(rows))
    sizes = np.diff(plan.offsets)
    assert sizes.max() <= 64
    batch = np.repeat(np.arange(len(plan)), sizes)
    for key in (anchor, positive):
        assert len(np.unique(key[plan.pairs] * len(plan) + batch)) == rows
    least = max(-(-rows // 64), np.bincount(anchor).max(), np.bincount(positive).max())
    assert len(plan) <= 1.05 * least


@pytest.mark.parametrize("ties", [1, 3])
def test_memory_of_a_plan(ties: int) -> None:
    rows = 100_000
    rng = np.random.default_rng(0)
    anchor, positive = keys(rng.integers(0, rows // ties, rows)), np.arange(rows)
    tracemalloc.start()
    plan_epoch(anchor, positive, batch_size=64, seed=0, epoch=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak / rows < 200


def test_taken() -> None:
    taken = GrowingSet(np.array([5, 1]))
    taken.add(np.array([9]))
    taken.add(np.array([7, 3]))
    assert taken.holds(np.array([0, 1, 2, 3, 9, 10])).tolist() == [0, 1, 0, 1, 1, 0]
