"""Pairs of a question and a text that answers it: what is trained on and measured, as numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embedft.data.ties import RowHashes
from embedft.table.keys import Hashes, Ints, Mask, dense_ids
from embedft.table.negatives import Negatives
from embedft.table.settings import Target
from embedft.table.table import Table

RELEVANT = 0.5
"""Label from which on a positive is a relevant answer."""


def target_names(positive: Target) -> list[str]:
    """The kinds of texts that a question is trained to find, by name."""
    return ["answers", "contexts"] if positive == "both" else [f"{positive}s"]


@dataclass(frozen=True)
class Pairs:
    """Training pairs, or held-out pairs: (pairs,) numbers each.

    Attributes:
        anchor: Index of the anchor's text in the token store.
        positive: Index of the positive's text in the token store.
        anchor_hash: 64-bit hash of the normalised anchor.
        positive_hash: 64-bit hash of the normalised positive.
        anchor_id: Dense id of the normalised anchor, from 0: equal texts of training and held-out
            pairs have the same id.
        positive_id: Dense id of the normalised positive, from 0, as for anchors.
        file_id: Equal if two pairs come from one file; -1 if the row names none.
        relevant: Whether the positive is a relevant answer to the anchor.
        labels: float32 in [0, 1], or None.
        source_row: Index, from 0, of the valid row of the file that the pair comes from.
        negatives: Hard negatives of each pair, their keys ids like ``positive_id``; None if there
            are none.
    """

    anchor: Ints
    positive: Ints
    anchor_hash: Hashes
    positive_hash: Hashes
    anchor_id: Ints
    positive_id: Ints
    file_id: Ints
    relevant: Mask
    labels: NDArray[np.float32] | None
    source_row: Ints
    negatives: Negatives | None = None

    def __len__(self) -> int:
        return len(self.anchor)

    def only(self, kept: Mask | slice) -> Pairs:
        """The pairs that a (pairs,) mask or a slice keeps, without their negatives."""
        return Pairs(
            self.anchor[kept],
            self.positive[kept],
            self.anchor_hash[kept],
            self.positive_hash[kept],
            self.anchor_id[kept],
            self.positive_id[kept],
            self.file_id[kept],
            self.relevant[kept],
            None if self.labels is None else self.labels[kept],
            self.source_row[kept],
        )

    @cached_property
    def pair_ids(self) -> Ints:
        """Ascending distinct (anchor, positive) pairs, each as one number."""
        return np.unique(self.pair_id(self.anchor_id, self.positive_id))

    def pair_id(self, anchor_id: Ints, positive_id: Ints) -> Ints:
        """One number for each anchor and positive."""
        return anchor_id * self._width + positive_id

    @cached_property
    def _width(self) -> int:
        return int(self.positive_id.max(initial=0)) + 1

    @cached_property
    def text_hashes(self) -> Hashes:
        """The distinct hashes of all anchors and positives, ascending."""
        return np.unique(np.append(self.anchor_hash, self.positive_hash))

    @property
    def can_draw_negatives(self) -> bool:
        """Whether each question has a positive of another pair that is irrelevant to it."""
        _, answers = np.unique(self.pair_ids // self._width, return_counts=True)
        return int(answers.max(initial=0)) < len(np.unique(self.positive_id))

    def relevant_to(self, batch: Ints) -> tuple[Ints, Ints]:
        """The relevant answers to the questions of a batch.

        Args:
            batch: (B,) indices of pairs.

        Returns:
            (answers,) index in the batch of the question, and id of the answer.
        """
        width = self._width
        first = np.searchsorted(self.pair_ids, self.anchor_id[batch] * width)
        counts = np.searchsorted(self.pair_ids, (self.anchor_id[batch] + 1) * width) - first
        question = np.repeat(np.arange(len(batch)), counts)
        shift = np.repeat(first - (np.cumsum(counts) - counts), counts)
        return question, self.pair_ids[shift + np.arange(len(question))] % width


def row_hashes(table: Table, rows: Ints, target: Target = "both") -> RowHashes:
    """What ties rows of a table together; the target of a question is trained on."""
    return RowHashes(
        table.question_hash[rows],
        table.answer_hash[rows],
        table.file_hash[rows],
        None if table.context_hash is None else table.context_hash[rows],
        answers_trained=target != "context",
    )


TableRows = tuple[Table, Ints]
"""A table, and the rows of it that are used."""


def encode_pairs(train: TableRows, held_out: TableRows, target: Target) -> tuple[Pairs, Pairs]:
    """The pairs of training and held-out rows: equal texts of both get the same id.

    Each row gives its answer, its context if it has one, or both. The texts of another table count
    on from those of the first. Labels of the held-out pairs are kept only if the training pairs
    have labels, and are 1 if the held-out ones have none.
    """
    first_text = 0 if held_out[0] is train[0] else len(train[0].tokens.cut)
    parts = _columns(*train, target), _columns(*held_out, target, first_text)
    columns: list[Any] = [np.concatenate(column) for column in zip(*parts, strict=True)]
    both = _Columns(*columns)
    count = len(parts[0].anchor)
    files = dense_ids(both.file_hash[:count]), dense_ids(both.file_hash[count:])
    pairs = Pairs(
        anchor=both.anchor,
        positive=both.positive,
        anchor_hash=both.anchor_hash,
        positive_hash=both.positive_hash,
        anchor_id=dense_ids(both.anchor_hash),
        positive_id=dense_ids(both.positive_hash),
        file_id=np.concatenate(files),
        relevant=both.label >= RELEVANT,
        labels=None if train[0].label is None else both.label.astype(np.float32),
        source_row=both.source_row,
    )
    return pairs.only(slice(count)), pairs.only(slice(count, None))


class _Columns(NamedTuple):
    """The columns of the pairs of one table, (pairs,) each; a missing label is 1."""

    anchor: Ints
    positive: Ints
    anchor_hash: Hashes
    positive_hash: Hashes
    file_hash: Hashes
    label: NDArray[np.float64]
    source_row: Ints


def _columns(table: Table, rows: Ints, target: Target, first_text: int = 0) -> _Columns:
    parts: list[tuple[Ints, Ints, Hashes]] = []
    if target != "context":
        assert table.answer is not None
        parts.append((rows, table.answer[rows], table.answer_hash[rows]))
    if target != "answer":
        assert table.context is not None
        assert table.context_hash is not None
        with_context = rows[table.context[rows] >= 0]
        parts.append((with_context, table.context[with_context], table.context_hash[with_context]))
    row, text, text_hash = map(np.concatenate, zip(*parts, strict=True))
    if len(parts) > 1:
        order = np.argsort(row, kind="stable")  # a row's answer, then its context
        row, text, text_hash = row[order], text[order], text_hash[order]
    return _Columns(
        anchor=table.question[row] + first_text,
        positive=text + first_text,
        anchor_hash=table.question_hash[row],
        positive_hash=text_hash,
        file_hash=table.file_hash[row],
        label=np.ones(len(row)) if table.label is None else table.label[row],
        source_row=row,
    )
