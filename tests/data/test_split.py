from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from oracle import read_records, record_hashes, split_records
from tiny import SAMPLE

from embedft.data.split import drop_leaking_rows, fitting, split_rows
from embedft.data.ties import leak_groups
from embedft.errors import InputError
from embedft.table.record import Record, normalize_text


def record(line: int, question: str, answer: str, file_name: str = "", context: str = "") -> Record:
    return Record(line, str(line), question, answer, context, file_name)


def leak_keys(record: Record, with_context: bool) -> set[tuple[str, str]]:
    keys = {("q", normalize_text(record.question)), ("a", normalize_text(record.answer))}
    if with_context and record.context:  # looked for as answers are
        keys.add(("a", normalize_text(record.context)))
    return keys | ({("f", record.file_name)} if record.file_name else set())


def numbered(count: int) -> list[Record]:
    return [record(i, f"q{i}", f"a{i}") for i in range(count)]


rows = st.lists(
    st.tuples(*[st.integers(0, 40)] * 4).map(
        lambda t: record(
            0,
            f"Q{t[0]}",
            f"A{t[1]}",
            f"f{t[2]}" if t[2] < 30 else "",
            f"A{t[3]}" if t[3] < 30 else "",
        )
    ),
    min_size=3,
    max_size=60,
)


@given(rows, st.floats(0.1, 0.95), st.integers(0, 5), st.booleans())
def test_no_key_lies_on_both_sides(
    records: list[Record], share: float, seed: int, with_context: bool
) -> None:
    try:
        split = split_records(records, share, seed, with_context)
    except InputError:
        return
    train, validation = split.train.tolist(), split.validation.tolist()
    assert sorted(train + validation) == list(range(len(records)))
    event("with a limit" if split.max_files else "without a limit")
    files = [
        {key for row in side for key in leak_keys(records[row], with_context) if key[0] == "f"}
        for side in (train, validation)
    ]
    assert not files[0] & files[1]
    evaluated = sorted(set(validation) - set(split.not_evaluated.tolist()))
    assert evaluated
    assert train == sorted(train)
    assert validation == sorted(validation)
    assert train
    assert validation
    sides = [
        {key for row in side for key in leak_keys(records[row], with_context)}
        for side in (train, evaluated)
    ]
    assert not sides[0] & sides[1]
    groups = leak_groups(record_hashes(records, with_context), split.max_files)
    assert split.train_groups + split.validation_groups == len(set(groups.tolist()))


def test_ties_are_transitive_and_normalised() -> None:
    records = [
        record(0, "What?", "a", "x.pdf"),
        record(1, "other", "b", "x.pdf"),
        record(2, "third", "  B ", "y.pdf"),
        record(3, "WHAT?", "c"),
        record(4, "fifth", "d"),
    ]
    assert leak_groups(record_hashes(records, with_context=False)).tolist() == [0, 0, 0, 0, 4]


def test_context_ties_when_it_is_trained_on() -> None:
    records = [record(0, "q0", "a0", context="same"), record(1, "q1", "a1", context="Same ")]
    assert leak_groups(record_hashes(records, with_context=False)).tolist() == [0, 1]
    assert leak_groups(record_hashes(records, with_context=True)).tolist() == [0, 0]


def test_no_file_and_no_context_tie_nothing() -> None:
    assert leak_groups(record_hashes(numbered(3), with_context=True)).tolist() == [0, 1, 2]


def test_split_depends_on_the_texts_and_the_seed_alone() -> None:
    records, _ = read_records(SAMPLE)
    first = split_records(records, 0.8, seed=42)
    held_out = {records[row].question for row in first.validation}
    shuffled = random.Random(1).sample(records, len(records))
    again = split_records(shuffled, 0.8, seed=42)
    assert {shuffled[row].question for row in again.validation} == held_out
    other = split_records(records, 0.8, seed=43)
    assert {records[row].question for row in other.validation} != held_out


def test_split_is_the_same_on_every_machine() -> None:
    split = split_records(numbered(20), 0.8, seed=42)
    assert split.validation.tolist() == [0, 1, 2, 4]


def test_share_is_met() -> None:
    split = split_records(numbered(1000), 0.9, seed=0)
    assert len(split.validation) == 100
    assert "900 rows to train on (900 groups), 100 held out (100 groups)" in str(split)


def test_groups_larger_than_the_share_give_the_smallest() -> None:
    records = [record(i, f"q{i}", f"a{i}", "big" if i < 70 else "small") for i in range(100)]
    split = split_records(records, 0.9, seed=0)
    assert split.validation.tolist() == list(range(70, 100))


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, 1.5, float("nan")])
def test_share_out_of_range(share: float) -> None:
    with pytest.raises(InputError, match="train_split: is .* must lie between 0 and 1"):
        split_records(numbered(10), share, seed=0)


def test_too_small_sets() -> None:
    with pytest.raises(InputError, match=r"too few rows to train on and to hold out: 1\."):
        split_records(numbered(1), 0.9, seed=0)
    one_file = [record(i, f"q{i}", f"a{i}", "x.pdf") for i in range(9)]
    with pytest.raises(InputError, match="all 9 rows share files, questions or answers"):
        split_records(one_file, 0.9, seed=0)
    lopsided = [*one_file, record(9, "q", "a")]
    with pytest.raises(InputError, match=r"a training share of 0\.01 leaves 0 rows"):
        split_records(lopsided, 0.01, seed=0)


def test_rows_of_ones_own_validation_set_are_not_trained_on() -> None:
    validation = [record(0, "Held", "out", "v.pdf")]
    train = [
        record(0, "held ", "x"),
        record(1, "y", "OUT"),
        record(2, "fine", "fine", "v.pdf"),
        record(3, "also", "also"),
    ]
    stays, same_file = drop_leaking_rows(
        record_hashes(train, False), record_hashes(validation, False)
    )
    assert stays.tolist() == [False, False, True, True]
    assert same_file == 1


def test_a_context_in_ones_own_validation_set_leaks_when_it_is_trained_on() -> None:
    """Whichever of the two it is, there and here."""
    validation = [record(0, "Held", "out", context="Here"), record(1, "other", "set")]
    train = [
        record(0, "x", "x", context="here"),
        record(1, "y", "y"),
        record(2, "z", "HERE"),
        record(3, "w", "w", context="Out"),
    ]
    for with_context, expected in ((False, [True] * 4), (True, [False, True, False, False])):
        keys = [record_hashes(side, with_context) for side in (train, validation)]
        assert drop_leaking_rows(*keys)[0].tolist() == expected


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.integers(1, 60))
def test_groups_fill_the_share_in_their_order(sizes: list[int], target: int) -> None:
    expected, room = [], target
    for place, size in enumerate(sizes):
        if size <= room:
            expected.append(place)
            room -= size
    assert fitting(np.array(sizes), target).tolist() == expected


def in_files(rows: int, files: int) -> list[Record]:
    return [record(i, f"q{i}", f"a{i}", f"f{i * files // rows}") for i in range(rows)]


def test_a_question_of_every_file_ties_nothing_and_is_not_evaluated() -> None:
    records = in_files(100, 20)
    expected = split_records(records, 0.9, seed=42)
    generic = [
        r._replace(question="What is it?") if i % 5 == 0 else r for i, r in enumerate(records)
    ]
    split = split_records(generic, 0.9, seed=42)
    assert expected.max_files is None
    assert (split.max_files, len(split.train), len(split.validation)) == (10, 90, 10)
    assert {row for row in split.validation if row % 5 == 0} == set(split.not_evaluated)
    assert "unless more than 10 files do" in str(split)


@pytest.mark.parametrize("named", [True, False])
def test_yes_and_no_do_not_halve_a_file(named: bool) -> None:
    records = [
        r._replace(answer="Yes." if i % 4 == 0 else "No." if i % 4 == 1 else r.answer)
        for i, r in enumerate(in_files(100, 20))
    ]
    if not named:
        records = [r._replace(file_name="") for r in records]
    split = split_records(records, 0.9, seed=0)
    assert len(split.validation) == 10
    assert all(row % 4 < 2 for row in split.not_evaluated)


def test_a_split_that_meets_its_share_is_kept_whatever_is_shared() -> None:
    """A question of 30 files makes one large group, beside which there is enough to hold out."""
    records = [
        r._replace(question="same") if i < 150 and i % 5 == 0 else r
        for i, r in enumerate(in_files(500, 100))
    ]
    split = split_records(records, 0.9, seed=0)
    assert split.max_files is None
    assert len(split.validation) == 50


def test_rows_of_which_all_are_shared_are_refused() -> None:
    records = [r._replace(question=f"q{i % 5}") for i, r in enumerate(in_files(100, 20))]
    with pytest.raises(InputError, match="all 100 rows share files, questions or answers"):
        split_records(records, 0.9, seed=0)


def test_answers_that_are_not_trained_on_may_be_evaluated() -> None:
    hashes = record_hashes(
        [r._replace(answer=f"{i % 2}") for i, r in enumerate(in_files(100, 20))], False
    )
    with pytest.raises(InputError):
        split_rows(hashes, 0.9, 0)
    split = split_rows(replace(hashes, answers_trained=False), 0.9, 0)
    assert len(split.validation) == 10
    assert not len(split.not_evaluated)
