from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numbered_pairs import numbered_pairs
from tiny import write_jsonl

from embedft.data.load import read_settings
from embedft.data.negative_sampling import draw_negatives, named_negatives
from embedft.data.pairs import encode_pairs
from embedft.encoder.encoder import Encoder
from embedft.errors import InputError
from embedft.table.table import read_table


@given(
    st.lists(
        st.tuples(st.integers(-1, 3), st.integers(0, 9), st.integers(0, 9)), min_size=2, max_size=40
    ),
    st.integers(1, 4),
    st.integers(0, 3),
)
def test_drawn_negatives_are_irrelevant_and_of_another_file(
    rows: list[tuple[int, int, int]], count: int, seed: int
) -> None:
    data = numbered_pairs(*[list(column) for column in zip(*rows, strict=True)])
    right = set(zip(data.anchor_id.tolist(), data.positive_id.tolist(), strict=True))

    def may(row: int, other: int) -> bool:
        same_file = data.file_id[row] >= 0 and data.file_id[row] == data.file_id[other]
        return not same_file and (data.anchor_id[row], data.positive_id[other]) not in right

    everyone = range(len(rows))
    batch = np.arange(len(rows))
    if not all(any(may(row, other) for other in everyone) for row in everyone):
        with pytest.raises(InputError, match="negatives can't be drawn"):
            draw_negatives(data, batch, count, seed, (0, 0))
        return
    drawn = draw_negatives(data, batch, count, seed, (0, 0))
    assert drawn.shape == (len(rows), count)
    assert all(may(row, int(other)) for row in everyone for other in drawn[row])


def test_drawn_negatives_depend_only_on_seed_epoch_and_batch() -> None:
    data, batch = numbered_pairs([-1] * 1000), np.arange(32)
    draws = {
        tuple(draw_negatives(data, batch, 2, seed, at).ravel())
        for seed in (0, 1)
        for at in ((0, 0), (0, 1), (1, 0))
        for _ in range(2)
    }
    assert len(draws) == 6


def test_named_negatives_have_the_ids_of_equal_positives(tmp_path: Path, encoder: Encoder) -> None:
    """Without relevant answers to the question, held-out answers, and repeats."""
    rows: list[dict[str, Any]] = [{"question": f"q{i}", "answer": f"a{i}"} for i in range(10)]
    rows[0]["negatives"] = ["a0", "A1 ", "a1", "a9", "new", "other"]
    rows[2] |= {"question": "Q0", "negatives": ["new"]}
    path = write_jsonl(tmp_path / "p.jsonl", rows)
    settings = read_settings(encoder, "answer", context_required=False, negatives=True)
    table = read_table(str(path), settings, None)
    train, held_out = encode_pairs((table, np.arange(8)), (table, np.array([8, 9])), "answer")
    negatives = named_negatives(table, train, (train, held_out))
    assert negatives is not None
    assert negatives.counts.tolist() == [3, 0, 1, 0, 0, 0, 0, 0]
    assert negatives.key[0] == train.positive_id[1]
    assert negatives.key[1] == negatives.key[3] > max(train.positive_id.max(), 9)
    assert len(set(negatives.key.tolist())) == 3
    assert named_negatives(table, train.only(slice(3, None)), (train, held_out)) is None
