"""A split that cannot leak: rows that share a file, a question or an answer stay together.

A text that many files share would tie them all, so that too little, too much or nothing could be
held out. Then it ties nothing, and a held-out row that has it is not evaluated.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from embedft.data.ties import FileCounts, RowHashes, count_files, leak_groups, without_shared
from embedft.errors import InputError
from embedft.table.keys import NO_HASH, Hashes, Ints, Mask, combine_hashes

MAX_FILES = (1000, 500, 200, 100, 50, 20, 10, 5, 3, 2)
"""Numbers of files that are tried, in this order: texts in more files tie nothing."""
TOLERANCE = 0.02
"""How far the held-out share of the rows may be from what was asked."""


@dataclass(frozen=True, slots=True)
class Split:
    """Indices of the training and the held-out rows, ascending, and the number of their groups.

    Attributes:
        train: Rows to train on.
        validation: Held-out rows.
        train_groups: Groups of the rows to train on.
        validation_groups: Groups of the held-out rows.
        max_files: Texts in more files than this tie nothing; None if all texts tie rows.
        not_evaluated: The held-out rows that have such a text, which may be trained on.
    """

    train: Ints
    validation: Ints
    train_groups: int
    validation_groups: int
    max_files: int | None = None
    not_evaluated: Ints = field(default_factory=lambda: np.arange(0))

    def __str__(self) -> str:
        return (
            f"split: {len(self.train)} rows to train on ({self.train_groups} groups), "
            f"{len(self.validation)} held out ({self.validation_groups} groups); "
            "rows that share a file, question or answer form a group and are kept together"
            + ("" if self.max_files is None else f", unless more than {self.max_files} files do")
        )


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

    If that misses the share by more than :data:`TOLERANCE`, texts in more than ``max_files`` files
    tie nothing. ``max_files`` is the largest of :data:`MAX_FILES` that meets the share, or else the
    one that comes closest. Rows with such a text are trained on, or held out and not evaluated.

    Args:
        hashes: What ties the rows.
        train_split: Share of rows to train on, in (0, 1).
        seed: Another seed gives another split.

    Raises:
        InputError: The share is out of range, or the rows are too few or all tied together.
    """
    check_train_split(train_split)
    rows = len(hashes)
    if rows < 3:
        raise InputError(f"too few rows to train on and to hold out: {rows}{_TOO_SMALL}")
    target = _target(rows, train_split)

    def missed_by(split: Split | None) -> int:
        return rows if split is None else abs(len(split.validation) - target)

    order_hash = combine_hashes(
        np.array([seed % 2**64], dtype=np.uint64), hashes.question, hashes.answer
    )
    best = refusal = None
    try:
        best = _split_groups(leak_groups(hashes), order_hash, train_split)
    except InputError as error:
        refusal = error
    if missed_by(best) > max(1, TOLERANCE * rows):
        files = count_files(hashes)
        most = max(int(counts.max()) for counts in files if counts is not None)
        for max_files in (number for number in MAX_FILES if number < most):
            split = _split_by_few_files(hashes, files, max_files, order_hash, train_split)
            if missed_by(split) < missed_by(best):
                best = split
            if missed_by(best) <= max(1, TOLERANCE * rows):
                break
    if best is None:
        assert refusal is not None
        raise refusal
    return best


def _target(rows: int, train_split: float) -> int:
    """How many rows are to be held out."""
    return max(1, round(rows * (1 - train_split)))


def usual_max_files(hashes: RowHashes) -> int | None:
    """The ``max_files`` of the split of a usual share, for rows of which none is held out."""
    try:
        return split_rows(hashes, train_split=0.9, seed=42).max_files
    except InputError:
        return min(MAX_FILES)


_TOO_SMALL = ". Add rows, or give a validation file with --data.validation_jsonl"


def _split_groups(group: Ints, order_hash: Hashes, train_split: float) -> Split:
    """Holds out groups of about the share of the rows that is not trained on.

    Args:
        group: (rows,) the first row of each row's group.
        order_hash: (rows,) the smallest one of a group decides when the group is taken.
        train_split: Share of rows to train on.

    Raises:
        InputError: There is one group, or too few rows are left to train on.
    """
    rows = len(group)
    first_rows = np.flatnonzero(group == np.arange(rows))
    if len(first_rows) < 2:
        raise InputError(
            f"all {rows} rows share files, questions or answers, so none can be held out "
            f"without a leak{_TOO_SMALL}"
        )
    sizes = np.bincount(group)[first_rows]
    least = np.full(rows, np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(least, group, order_hash)
    order = np.argsort(least[first_rows], kind="stable")
    held_out = order[fitting(sizes[order], _target(rows, train_split))]
    if not len(held_out):
        held_out = order[[np.argmin(sizes[order])]]
    size = int(sizes[held_out].sum())
    if rows - size < 2:
        raise InputError(f"a training share of {train_split} leaves {rows - size} rows{_TOO_SMALL}")
    is_held_out = np.zeros(rows, dtype=np.bool_)
    is_held_out[first_rows[held_out]] = True
    is_held_out = is_held_out[group]
    return Split(
        train=np.flatnonzero(~is_held_out),
        validation=np.flatnonzero(is_held_out),
        train_groups=len(first_rows) - len(held_out),
        validation_groups=len(held_out),
    )


def _split_by_few_files(
    hashes: RowHashes, files: FileCounts, max_files: int, order_hash: Hashes, train_split: float
) -> Split | None:
    """The split if texts in more than ``max_files`` files tie nothing; None if there is none."""
    shared = files.question > max_files
    if hashes.answers_trained:
        shared |= files.answer > max_files
    if files.context is not None:
        shared |= files.context > max_files
    try:
        group = leak_groups(without_shared(hashes, files, max_files))
        split = _split_groups(group, order_hash, train_split)
    except InputError:
        return None
    not_evaluated = split.validation[shared[split.validation]]
    if len(not_evaluated) == len(split.validation):
        return None
    return replace(split, max_files=max_files, not_evaluated=not_evaluated)


def all_held_out(rows: int) -> Split:
    """Holds out every row.

    Raises:
        InputError: There is none.
    """
    if not rows:
        raise InputError("there is no row to evaluate. Give a file of pairs as --input_jsonl")
    return Split(np.arange(0), np.arange(rows), train_groups=0, validation_groups=rows)


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
