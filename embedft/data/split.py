"""A split that cannot leak: rows that share a file, a question or an answer stay together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from embedft.errors import InputError
from embedft.table.keys import (
    NO_HASH,
    Hashes,
    Ints,
    Mask,
    combine_hashes,
    connected,
    dense_ids,
)


@dataclass(frozen=True, slots=True)
class RowHashes:
    """What ties rows: (rows,) keys of the normalised texts and of the file names, 0 for none.

    Attributes:
        question: Of the questions.
        answer: Of the answers.
        file: Of the file names.
        context: Of the contexts; None where they are not trained on and so tie nothing.
    """

    question: Hashes
    answer: Hashes
    file: Hashes
    context: Hashes | None = None

    def __len__(self) -> int:
        return len(self.question)


@dataclass(frozen=True, slots=True)
class Split:
    """Row indices of the two sides, each ascending, and how many groups each holds."""

    train: Ints
    validation: Ints
    train_groups: int
    validation_groups: int

    def __str__(self) -> str:
        return (
            f"split: {len(self.train)} rows to train on ({self.train_groups} groups), "
            f"{len(self.validation)} held out ({self.validation_groups} groups); "
            "a group shares files, questions or answers, and lies on one side"
        )


def leak_groups(keys: RowHashes) -> Ints:
    """(rows,) the first row of each row's group: connected components under shared keys.

    Answers and contexts are looked for alike, so one row's answer may be another's context.
    """
    question, file = dense_ids(keys.question), dense_ids(keys.file)
    if keys.context is None:
        return connected(question, dense_ids(keys.answer), file)
    rows = np.arange(len(keys))  # each twice: with its answer, and with its context
    no_ties = np.full(len(rows), -1)
    passage = dense_ids(np.append(keys.answer, keys.context))
    columns = (np.append(rows, rows), np.append(question, no_ties), np.append(file, no_ties))
    return connected(passage, *columns)[: len(rows)]


def train_split_error(train_split: float) -> InputError:
    """What is said of a share that is out of range."""
    return InputError(f"train_split: is {train_split}, must lie between 0 and 1 (usual: 0.9)")


def split_rows(keys: RowHashes, train_split: float, seed: int) -> Split:
    """Splits rows into training and validation without a shared file, question or answer.

    Groups are taken in the order of a seeded hash of their texts, so the split is the same on every
    machine and does not depend on the order of the rows. Groups go to validation as long as they
    fit into its share; a set made of large groups gets the smallest one.

    Args:
        keys: What ties the rows.
        train_split: Share of rows to train on, in (0, 1).
        seed: Another seed gives another split.

    Raises:
        InputError: The share is out of range, or the rows are too few or all tied together.
    """
    if not 0 < train_split < 1:
        raise train_split_error(train_split)
    rows = len(keys)
    too_small = "; add rows, or give a set of your own with --data.validation_jsonl"
    if rows < 3:
        raise InputError(f"{rows} row(s) are too few to train on and hold some out{too_small}")
    group = leak_groups(keys)
    first_rows = np.flatnonzero(group == np.arange(rows))
    if len(first_rows) < 2:
        raise InputError(
            f"all {rows} rows share files, questions or answers, so none can be held out "
            f"without a leak{too_small}"
        )
    sizes = np.bincount(group)[first_rows]
    order = np.argsort(_group_hashes(keys, group, seed)[first_rows], kind="stable")
    target = max(1, round(rows * (1 - train_split)))
    held_out = order[fitting(sizes[order], target)]
    if not len(held_out):
        held_out = order[[np.argmin(sizes[order])]]
    size = int(sizes[held_out].sum())
    if rows - size < 2:
        raise InputError(f"a training share of {train_split} leaves {rows - size} rows{too_small}")
    is_held_out = np.zeros(rows, dtype=np.bool_)
    is_held_out[first_rows[held_out]] = True
    is_held_out = is_held_out[group]
    return Split(
        train=np.flatnonzero(~is_held_out),
        validation=np.flatnonzero(is_held_out),
        train_groups=len(first_rows) - len(held_out),
        validation_groups=len(held_out),
    )


def all_held_out(rows: int) -> Split:
    """Every row is measured, none is trained on.

    Raises:
        InputError: There is none.
    """
    if not rows:
        raise InputError("there is no row to measure; give a file of pairs as --input_jsonl")
    return Split(np.arange(0), np.arange(rows), train_groups=0, validation_groups=rows)


def _group_hashes(keys: RowHashes, group: Ints, seed: int) -> Hashes:
    """(rows,) at a group's first row the smallest hash of its rows, whatever their order."""
    hashes = combine_hashes(np.array([seed % 2**64], dtype=np.uint64), keys.question, keys.answer)
    least = np.full(len(group), np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(least, group, hashes)
    return least


def fitting(sizes: Ints, target: int) -> Ints:
    """Places of the sizes that are taken when each that still fits is, one after the other."""
    taken = []
    places = np.arange(len(sizes))
    while True:
        places = places[sizes[places] <= target]  # what is too large now stays too large
        if not len(places):
            break
        sums = np.cumsum(sizes[places])
        count = int(np.searchsorted(sums, target, side="right"))
        taken.append(places[:count])
        target -= int(sums[count - 1])
        places = places[count:]
    return np.concatenate(taken) if taken else places


def drop_leaking_rows(train: RowHashes, validation: RowHashes) -> tuple[Mask, int]:
    """Finds the training rows whose texts do not stand in a validation set of one's own.

    Returns:
        (rows,) True for rows that stay, and how many of those share a file with the validation
        set. A shared file is reported and not dropped: whoever brings a validation set chose its
        files.
    """
    passages = validation.answer
    if validation.context is not None:
        passages = np.append(passages, validation.context)
    passages = passages[passages != NO_HASH]
    leaks = np.isin(train.question, validation.question) | np.isin(train.answer, passages)
    if train.context is not None:
        leaks |= np.isin(train.context, passages)
    same_file = ~leaks & (train.file != NO_HASH) & np.isin(train.file, validation.file)
    return ~leaks, int(same_file.sum())
