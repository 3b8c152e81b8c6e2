from __future__ import annotations

import pytest

from embedft.errors import InputError
from embedft.table.read_report import MAX_REPORTED, ReadCounts


def test_only_the_first_bad_rows_are_named() -> None:
    counts = ReadCounts("p.jsonl", rows=30)
    for line in range(1, 26):
        counts.add_problem(line, "question: is empty")
    assert (counts.skipped, counts.valid, len(counts.problems)) == (25, 5, MAX_REPORTED)
    assert counts.problems[0] == "p.jsonl:1: question: is empty"
    with pytest.raises(InputError) as error:
        counts.check(5, refuse_bad_rows=True)
    assert str(error.value).splitlines()[-2:] == [
        "p.jsonl: ... and 5 more bad rows",
        "p.jsonl: 25 of 30 rows are bad. Fix them, or leave them out with --on_bad_rows skip",
    ]
    counts.check(5, refuse_bad_rows=False)


@pytest.mark.parametrize("labelled", [1, 2])
def test_labels_of_a_part_of_the_rows_are_refused(labelled: int) -> None:
    counts = ReadCounts("p.jsonl", rows=3)
    with pytest.raises(InputError, match=f"p.jsonl:2: label: missing, while {labelled} of 3 rows"):
        counts.check_labels(labelled, 3, 2)
    counts.check_labels(0, 3, 1)
    counts.check_labels(3, 3, 0)


def test_duplicate_ids_are_named_by_line() -> None:
    assert ReadCounts("p.jsonl").same_ids_problem == ""
    problem = ReadCounts("p.jsonl", same_ids=[3, 9, 4]).same_ids_problem
    assert problem.startswith("p.jsonl:9: id: duplicate id (same as line 4; 2 more duplicates;")
    problem = ReadCounts("p.jsonl", same_ids=[1, 9, 4]).same_ids_problem
    assert "more duplicates" not in problem
