from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedft.table.keys import (
    combine_hashes,
    connected,
    dense_ids,
    first_equal,
    repeats,
    text_hashes,
)

values = st.lists(st.integers(0, 9), max_size=40)


def test_equal_texts_have_equal_keys_and_no_text_has_none() -> None:
    keys = text_hashes(["a", "b", "", "a", "日本"])
    assert keys.dtype == np.uint64
    assert keys[0] == keys[3]
    assert keys[2] == 0
    assert len(set(keys.tolist())) == 4
    assert keys[0] == 3405396810240292928  # the same on every machine
    assert len(text_hashes([])) == 0


@given(values)
def test_first_equal_and_repeats(numbers: list[int]) -> None:
    array = np.array(numbers, dtype=np.int64)
    assert first_equal(array).tolist() == [numbers.index(number) for number in numbers]
    assert repeats(array).tolist() == [n in numbers[:i] for i, n in enumerate(numbers)]


@given(values)
def test_codes_are_small_and_equal_for_equal_keys(numbers: list[int]) -> None:
    found = dense_ids(np.array(numbers, dtype=np.uint64)).tolist()
    for number, code in zip(numbers, found, strict=True):
        assert (code == -1) == (number == 0)
        assert code < len(set(numbers))
    assert len(set(zip(numbers, found, strict=True))) == len(set(numbers)) == len(set(found))


def test_mixed_depends_on_every_column_and_their_order() -> None:
    one, two = np.arange(1, 100, dtype=np.uint64), np.arange(101, 200, dtype=np.uint64)
    keys = np.concatenate(
        [
            combine_hashes(one),
            combine_hashes(one, two),
            combine_hashes(two, one),
            combine_hashes(one, one),
        ]
    )
    assert len(np.unique(keys)) == 4 * 99


def test_mixed_is_splitmix64() -> None:
    assert combine_hashes(np.zeros(1, np.uint64)).tolist() == [
        0xE220A8397B1DCDAF
    ]  # its published first


def test_connected() -> None:
    component = connected(np.array([0, 1, 1, 2, 3]), np.array([5, 6, 7, 7, 8]))
    assert component.tolist() == [0, 1, 1, 1, 4]
    assert connected(np.array([-1, -1, 0])).tolist() == [0, 1, 2]


@given(st.lists(st.tuples(*[st.integers(-1, 9)] * 3), min_size=1, max_size=40))
def test_connected_is_what_a_search_finds(rows: list[tuple[int, int, int]]) -> None:
    expected = list(range(len(rows)))
    for _ in rows:
        for i, a in enumerate(rows):
            for j, b in enumerate(rows):
                if any(x == y >= 0 for x, y in zip(a, b, strict=True)):
                    expected[i] = min(expected[i], expected[j])
    found = connected(*(np.array(column) for column in zip(*rows, strict=True)))
    assert found.tolist() == expected


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_chain_of_all_rows_is_one_component(shuffled: bool) -> None:
    """Row by row it would take as many rounds as rows."""
    rows = 200_000
    place = np.random.default_rng(0).permutation(rows) if shuffled else np.arange(rows)
    assert not connected(place // 2, (place + 1) // 2).any()
