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


@given(pairs_of_keys, st.integers(1, 9), st.integers(0, 3), st.integers(0, 3))
def test_each_row_once_by_topic(
    rows: list[tuple[int, int]], size: int, seed: int, epoch: int
) -> None:
    anchor, positive = keys([a for a, _ in rows]), keys([b for _, b in rows])
    place = np.random.default_rng(seed).permutation(len(rows))
    plan = plan_epoch(
        anchor, positive, batch_size=size, seed=seed, epoch=epoch, topic_position=place
    )
    check_plan(plan, anchor, positive, size)
    assert sorted(plan.pairs) == list(range(len(rows)))


@given(pairs_of_keys, st.integers(1, 9), st.integers(0, 3), st.integers(0, 3))
def test_each_row_once_by_file(
    rows: list[tuple[int, int]], size: int, seed: int, epoch: int
) -> None:
    anchor, positive = keys([a for a, _ in rows]), keys([b for _, b in rows])
    file = np.random.default_rng(seed).integers(-1, 5, size=len(rows))
    plan = plan_epoch(anchor, positive, batch_size=size, seed=seed, epoch=epoch, file=file)
    check_plan(plan, anchor, positive, size)
    assert sorted(plan.pairs) == list(range(len(rows)))


@given(
    pairs_of_keys,
    st.integers(1, 9),
    st.floats(0, 0.9),
    st.sampled_from(["random", "topic", "file"]),
)
def test_waiting_rows_take_turns(
    rows: list[tuple[int, int]], size: int, max_left_out: float, by: str
) -> None:
    anchor, positive = keys([a for a, _ in rows]), keys([b for _, b in rows])
    rng = np.random.default_rng(0)
    place = rng.permutation(len(rows)) if by == "topic" else None
    file = rng.integers(-1, 5, size=len(rows)) if by == "file" else None

    def planned(epoch: int, max_left_out: float) -> Any:
        return plan_epoch(
            *(anchor, positive), batch_size=size, seed=1, epoch=epoch, topic_position=place, file=file,
            max_left_out=max_left_out,
        )  # fmt: skip

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


@pytest.mark.parametrize("by", ["topic", "file"])
def test_nor_where_batches_are_not_at_random(by: str) -> None:
    """As in MedQuAD, where a row of 208 of one text found no batch, and 28 more were made."""
    anchor = np.arange(1000)
    positive = keys(np.where(anchor < 60, 0, anchor))
    rng = np.random.default_rng(0)
    of: dict[str, Any] = (
        {"topic_position": rng.permutation(1000)} if by == "topic" else {"file": anchor // 3}
    )
    seen = np.zeros(1000, dtype=np.int64)
    for epoch in range(8):
        plan = plan_epoch(
            anchor, positive, batch_size=16, seed=0, epoch=epoch, max_left_out=0.05, **of
        )
        check_plan(plan, anchor, positive, 16)
        assert len(plan) == 63
        assert 950 <= len(plan.pairs) < 1000
        seen[plan.pairs] += 1
    assert seen[60:].min() >= 7
    assert seen[:60].mean() >= 4
    whole = plan_epoch(anchor, positive, batch_size=16, seed=0, epoch=0, **of)
    assert sorted(whole.pairs) == list(range(1000))


def test_rows_of_a_file_keep_together() -> None:
    """Up to an eighth of a batch of them: 4 of 32, with no other, in other batches each epoch."""
    rng = np.random.default_rng(0)
    file = rng.permutation(np.concatenate([np.repeat(np.arange(100), 3), np.full(300, 100)]))
    file = np.append(file, np.full(40, -1))
    ids, batches = np.arange(640), set()
    for epoch in range(2):
        plan = plan_epoch(ids, ids, batch_size=32, seed=0, epoch=epoch, file=file)
        assert len(plan) == 20
        assert sorted(plan.pairs) == list(range(640))
        with_others = 0
        for index in range(20):
            held, counts = np.unique(file[plan[index]], return_counts=True)
            with_others += int((counts[(held >= 0) & (held < 100)] == 3).sum())
            batches.add(frozenset(plan[index].tolist()))
        assert with_others > 80  # the others lie across an end of a batch
        assert np.diff([np.sum(file[plan[i]] == 100) for i in range(20)]).any()
    assert len(batches) == 40


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
