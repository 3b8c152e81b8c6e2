"""The scripts' split of a file is that of the second reader."""

from __future__ import annotations

from oracle import read_records, split_records
from tiny import SAMPLE

from scripts.split_file import split_file


def test_the_split_of_scripts_equals_that_of_records() -> None:
    records, _ = read_records(SAMPLE)
    expected = split_records(records, 0.9, seed=7)
    rows, train, held_out = split_file(str(SAMPLE), 0.9, seed=7)
    assert rows == records
    assert (train.tolist(), held_out.tolist()) == (
        expected.train.tolist(),
        expected.validation.tolist(),
    )
