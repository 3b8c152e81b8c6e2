"""A split that cannot leak: rows that share a file, a question or an answer stay together."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass

from embedft.data.records import Record, normalize_text
from embedft.errors import InputError


@dataclass(frozen=True, slots=True)
class Split:
    """Row indices of the two sides, each ascending, and how many groups each holds."""

    train: list[int]
    validation: list[int]
    train_groups: int
    validation_groups: int

    def __str__(self) -> str:
        return (
            f"split: {len(self.train)} rows to train on ({self.train_groups} groups), "
            f"{len(self.validation)} held out ({self.validation_groups} groups); "
            "a group shares files, questions or answers, and lies on one side"
        )


def leak_keys(record: Record, with_context: bool) -> list[tuple[str, str]]:
    """The keys that tie a row to others: file name, question, answer, and context if trained on."""
    keys = [
        ("question", normalize_text(record.question)),
        ("answer", normalize_text(record.answer)),
    ]
    if record.file_name:
        keys.append(("file_name", record.file_name))
    if with_context and record.context:
        keys.append(("context", normalize_text(record.context)))
    return keys


def leak_groups(records: list[Record], with_context: bool) -> list[list[int]]:
    """Connected components of the rows under shared keys, by union-find; row order is kept."""
    parent = list(range(len(records)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    first: dict[tuple[str, str], int] = {}
    for row, record in enumerate(records):
        for key in leak_keys(record, with_context):
            a, b = root(first.setdefault(key, row)), root(row)
            parent[max(a, b)] = min(a, b)
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for row in range(len(records)):
        groups[root(row)].append(row)
    return list(groups.values())


def split_records(
    records: list[Record], train_split: float, seed: int, with_context: bool = False
) -> Split:
    """Splits rows into training and validation without a shared file, question or answer.

    Groups are taken in the order of a seeded hash of their texts, so the split is the same on every
    machine and does not depend on the order of the rows. Groups go to validation as long as they
    fit into its share; a set made of large groups gets the smallest one.

    Args:
        records: The rows.
        train_split: Share of rows to train on, in (0, 1).
        seed: Another seed gives another split.
        with_context: Contexts are trained on, so rows that share one stay together too.

    Raises:
        InputError: The share is out of range, or the rows are too few or all tied together.
    """
    if not 0 < train_split < 1:
        raise InputError(f"train_split: is {train_split}, must lie between 0 and 1 (usual: 0.9)")
    groups = leak_groups(records, with_context)
    too_small = "; add rows, or give a set of your own with --data.validation_jsonl"
    if len(records) < 3:
        raise InputError(
            f"{len(records)} row(s) are too few to train on and hold some out{too_small}"
        )
    if len(groups) < 2:
        raise InputError(
            f"all {len(records)} rows share files, questions or answers, so none can be held out "
            f"without a leak{too_small}"
        )
    target = max(1, round(len(records) * (1 - train_split)))
    order = sorted(range(len(groups)), key=lambda g: _group_hash(records, groups[g], seed))
    held_out: list[int] = []
    size = 0
    for group in order:
        if size + len(groups[group]) <= target:
            held_out.append(group)
            size += len(groups[group])
    if not held_out:
        held_out = [min(order, key=lambda g: len(groups[g]))]
        size = len(groups[held_out[0]])
    if len(records) - size < 2:
        raise InputError(
            f"a training share of {train_split} leaves {len(records) - size} rows{too_small}"
        )
    validation = {row for group in held_out for row in groups[group]}
    return Split(
        train=[row for row in range(len(records)) if row not in validation],
        validation=sorted(validation),
        train_groups=len(groups) - len(held_out),
        validation_groups=len(held_out),
    )


def _group_hash(records: list[Record], group: list[int], seed: int) -> bytes:
    """The smallest hash of the group's rows: independent of the order of rows and groups."""
    return min(
        hashlib.blake2b(
            f"{seed}\0{records[row].question}\0{records[row].answer}".encode(), digest_size=16
        ).digest()
        for row in group
    )


def drop_leaking_rows(
    train: list[Record], validation: list[Record], with_context: bool = False
) -> tuple[list[Record], int]:
    """Leaves out of a training set the rows whose texts stand in a validation set of one's own.

    Returns:
        The rows that stay, and how many of those share a file with the validation set. A shared
        file is reported and not dropped: whoever brings a validation set chose its files.
    """
    held: set[tuple[str, str]] = set()
    for record in validation:
        held.update(leak_keys(record, with_context))
    kept = []
    same_file = 0
    for record in train:
        shared = {kind for kind, _ in held.intersection(leak_keys(record, with_context))}
        if shared <= {"file_name"}:
            kept.append(record)
            same_file += bool(shared)
    return kept, same_file
