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
    """What ties rows together: (rows,) hashes of normalised texts and file names, 0 for none.

    Attributes:
        question: Hashes of the questions.
        answer: Hashes of the answers.
        file: Hashes of the file names.
        context: Hashes of the contexts; None if they are not trained on and so tie nothing.
    """

    question: Hashes
    answer: Hashes
    file: Hashes
    context: Hashes | None = None

    def __len__(self) -> int:
        return len(self.question)


@dataclass(frozen=True, slots=True)
class Split:
    """Indices of the training and the held-out rows, ascending, and the number of their groups."""

    train: Ints
    validation: Ints
    train_groups: int
    validation_groups: int

    def __str__(self) -> str:
        return (
            f"split: {len(self.train)} rows to train on ({self.train_groups} groups), "
            f"{len(self.validation)} held out ({self.validation_groups} groups); "
            "rows that share a file, question or answer form a group and are kept together"
        )


def leak_groups(hashes: RowHashes) -> Ints:
    """(rows,) the first row of each row's group: connected components under shared hashes.

    One row's answer may be another's context, which ties them, too.
    """
    question, file = dense_ids(hashes.question), dense_ids(hashes.file)
    if hashes.context is None:
        return connected(question, dense_ids(hashes.answer), file)
    rows = np.arange(len(hashes))  # each twice: with its answer, and with its context
    no_ties = np.full(len(rows), -1)
    passage = dense_ids(np.append(hashes.answer, hashes.context))
    columns = (np.append(rows, rows), np.append(question, no_ties), np.append(file, no_ties))
    return connected(passage, *columns)[: len(rows)]


def check_train_split(train_split: float, *, may_hold_out_all: bool = False) -> None:
    """Refuses a share that is out of range.

    Args:
        train_split: Share of rows to train on.
        may_hold_out_all: Accept 0, by which every row is held out.

    Raises:
        InputError: The share is out of range.
    """
    if not (0 < train_split < 1 or (train_split == 0 and may_hold_out_all)):
        raise InputError(f"train_split: is {train_split}, must lie between 0 and 1 (usual: 0.9)")


def split_rows(hashes: RowHashes, train_split: float, seed: int) -> Split:
    """Splits rows into training and validation without a shared file, question or answer.

    Groups are taken in the order of a seeded hash of their texts. So the split is the same on every
    machine and does not depend on the order of the rows. A group is held out if it still fits into
    the held-out share. If none fits, the smallest group is held out.

    Args:
        hashes: What ties the rows.
        train_split: Share of rows to train on, in (0, 1).
        seed: Another seed gives another split.

    Raises:
        InputError: The share is out of range, or the rows are too few or all tied together.
    """
    check_train_split(train_split)
    rows = len(hashes)
    too_small = ". Add rows, or give a validation file with --data.validation_jsonl"
    if rows < 3:
        raise InputError(f"too few rows to train on and to hold out: {rows}{too_small}")
    group = leak_groups(hashes)
    first_rows = np.flatnonzero(group == np.arange(rows))
    if len(first_rows) < 2:
        raise InputError(
            f"all {rows} rows share files, questions or answers, so none can be held out "
            f"without a leak{too_small}"
        )
    sizes = np.bincount(group)[first_rows]
    order = np.argsort(_group_hashes(hashes, group, seed)[first_rows], kind="stable")
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
    """Holds out every row.

    Raises:
        InputError: There is none.
    """
    if not rows:
        raise InputError("there is no row to evaluate. Give a file of pairs as --input_jsonl")
    return Split(np.arange(0), np.arange(rows), train_groups=0, validation_groups=rows)


def _group_hashes(hashes: RowHashes, group: Ints, seed: int) -> Hashes:
    """(rows,) at the first row of a group the smallest hash of its rows, in any order."""
    seeds = np.array([seed % 2**64], dtype=np.uint64)
    of_row = combine_hashes(seeds, hashes.question, hashes.answer)
    least = np.full(len(group), np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(least, group, of_row)
    return least


def fitting(sizes: Ints, target: int) -> Ints:
    """Indices of the sizes that are taken if each one that still fits is taken, in their order."""
    taken = []
    index = np.arange(len(sizes))
    while True:
        index = index[sizes[index] <= target]  # what is too large now stays too large
        if not len(index):
            break
        sums = np.cumsum(sizes[index])
        count = int(np.searchsorted(sums, target, side="right"))
        taken.append(index[:count])
        target -= int(sums[count - 1])
        index = index[count:]
    return np.concatenate(taken) if taken else index


def drop_leaking_rows(train: RowHashes, validation: RowHashes) -> tuple[Mask, int]:
    """Finds the training rows that share no text with a validation file.

    Returns:
        (rows,) True for rows that stay, and how many of those share a file with the validation
        file. A shared file is reported, not dropped: the user chose the validation rows.
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
