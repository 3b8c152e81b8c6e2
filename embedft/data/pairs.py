"""From tables of rows to the pairs that are trained on, and the retrieval task that judges them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from embedft.data.split import RowHashes
from embedft.table.keys import Hashes, Ints, Mask, dense_ids
from embedft.table.negatives import Negatives
from embedft.table.settings import Positive
from embedft.table.table import Table

log = logging.getLogger(__name__)

RELEVANT = 0.5
"""Label from which a positive is a right answer."""


def target_names(positive: Positive) -> list[str]:
    """The kinds of texts that a question is trained to find, by name."""
    return ["answers", "contexts"] if positive == "both" else [f"{positive}s"]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Some pairs of a table, (pairs,) each.

    Attributes:
        anchor: Text numbers of the questions.
        positive: Text numbers of the answers or contexts.
        anchor_hash: Keys of the normalised questions.
        positive_hash: Keys of the normalised answers or contexts.
        file_hash: Keys of the file names, 0 for none.
        label: float64; None where the table has none.
        source_row: Row of the table that the pair is of.
    """

    anchor: Ints
    positive: Ints
    anchor_hash: Hashes
    positive_hash: Hashes
    file_hash: Hashes
    label: NDArray[np.float64] | None
    source_row: Ints

    def __len__(self) -> int:
        return len(self.anchor)

    @property
    def relevant(self) -> Mask:
        """(pairs,) the positive is a right answer."""
        if self.label is None:
            return np.ones(len(self), dtype=np.bool_)
        return np.asarray(self.label >= RELEVANT)

    def only(self, kept: Mask) -> Pairs:
        """Those that a (pairs,) mask keeps."""
        return Pairs(
            self.anchor[kept],
            self.positive[kept],
            self.anchor_hash[kept],
            self.positive_hash[kept],
            self.file_hash[kept],
            None if self.label is None else self.label[kept],
            self.source_row[kept],
        )

    def after(self, texts: int) -> Pairs:
        """The same pairs where the texts are numbered on from ``texts``."""
        return replace(self, anchor=self.anchor + texts, positive=self.positive + texts)


def row_hashes(table: Table, rows: Ints) -> RowHashes:
    """What ties some rows of a table."""
    return RowHashes(
        table.question_hash[rows],
        table.answer_hash[rows],
        table.file_hash[rows],
        None if table.context_hash is None else table.context_hash[rows],
    )


def pairs_of(table: Table, rows: Ints, positive: Positive) -> Pairs:
    """The pairs of some rows: of each row the answer, the context if it has one, or both."""
    columns: list[tuple[Ints, Ints, Hashes]] = []
    if positive != "context":
        assert table.answer is not None
        columns.append((rows, table.answer[rows], table.answer_hash[rows]))
    if positive != "answer":
        assert table.context is not None
        assert table.context_hash is not None
        owner = rows[table.context[rows] >= 0]
        columns.append((owner, table.context[owner], table.context_hash[owner]))
    owner, text = (np.concatenate([column[place] for column in columns]) for place in (0, 1))
    key = np.concatenate([column[2] for column in columns])
    if len(columns) > 1:
        order = np.argsort(owner, kind="stable")  # a row's answer, then its context
        owner, text, key = owner[order], text[order], key[order]
    return Pairs(
        anchor=table.question[owner],
        positive=text,
        anchor_hash=table.question_hash[owner],
        positive_hash=key,
        file_hash=table.file_hash[owner],
        label=None if table.label is None else table.label[owner],
        source_row=owner,
    )


def train_rows(train: Pairs, validation: Pairs) -> tuple[TrainRows, TrainRows]:
    """Training and held-out pairs, with codes that are equal for equal texts of both.

    Labels of the held-out pairs are kept only where the training pairs have some, and are 1 where
    the held-out ones have none.
    """
    count = len(train)
    anchor_id = dense_ids(np.concatenate([train.anchor_hash, validation.anchor_hash]))
    positive_id = dense_ids(np.concatenate([train.positive_hash, validation.positive_hash]))
    labels = validation_labels = None
    if train.label is not None:
        labels = train.label.astype(np.float32)
        validation_labels = np.ones(len(validation), dtype=np.float32)
        if validation.label is not None:
            validation_labels[:] = validation.label
    return (
        TrainRows(
            anchor=train.anchor,
            positive=train.positive,
            anchor_id=anchor_id[:count],
            positive_id=positive_id[:count],
            file_id=dense_ids(train.file_hash),
            labels=labels,
            source_row=train.source_row,
        ),
        TrainRows(
            anchor=validation.anchor,
            positive=validation.positive,
            anchor_id=anchor_id[count:],
            positive_id=positive_id[count:],
            file_id=np.full(len(validation), -1),
            labels=validation_labels,
            source_row=validation.source_row,
        ),
    )


@dataclass(frozen=True)
class TrainRows:
    """The training pairs as indices.

    Attributes:
        anchor: (rows,) index of the anchor's text in the token store.
        positive: (rows,) index of the positive's text in the token store.
        anchor_id: (rows,) equal where two anchors are the same text (normalised).
        positive_id: (rows,) equal where two positives are the same text (normalised).
        file_id: (rows,) equal where two rows come from one file; -1 where the row names none.
        labels: (rows,) float32, or None.
        source_row: (rows,) which good row of the file the pair is of, from 0.
        negatives: Wrong answers that the file names, with keys among those of the positives; None
            where there are none.
    """

    anchor: Ints
    positive: Ints
    anchor_id: Ints
    positive_id: Ints
    file_id: Ints
    labels: NDArray[np.float32] | None
    source_row: Ints
    negatives: Negatives | None = None

    def __len__(self) -> int:
        return len(self.anchor)

    def only(self, kept: Mask) -> TrainRows:
        """Those that a (rows,) mask keeps; they have no negatives yet."""
        return TrainRows(
            self.anchor[kept],
            self.positive[kept],
            self.anchor_id[kept],
            self.positive_id[kept],
            self.file_id[kept],
            None if self.labels is None else self.labels[kept],
            self.source_row[kept],
        )

    @cached_property
    def pair_ids(self) -> Ints:
        """Ascending (anchor, positive) pairs of the rows, each as one number."""
        return np.unique(self.numbered(self.anchor_id, self.positive_id))

    @cached_property
    def several_answers(self) -> float:
        """The share of distinct questions that have more than one answer, from 0 to 1."""
        _, first = np.unique(self.source_row, return_index=True)  # a row may give two pairs
        distinct = np.unique(self.numbered(self.anchor_id[first], self.positive_id[first]))
        _, answers = np.unique(distinct // self._width, return_counts=True)
        return float((answers > 1).sum() / max(1, len(answers)))

    @property
    def can_draw_negatives(self) -> bool:
        """Whether each question has an answer of another row that is wrong to it."""
        _, answers = np.unique(self.pair_ids // self._width, return_counts=True)
        return int(answers.max(initial=0)) < len(np.unique(self.positive_id))

    @cached_property
    def share_a_file(self) -> float:
        """The share of rows of the file whose ``file_name`` another names, too, from 0 to 1."""
        _, first = np.unique(self.source_row, return_index=True)  # a row may give two pairs
        files = self.file_id[first]
        named = files[files >= 0]
        together = int((np.bincount(named)[named] > 1).sum()) if len(named) else 0
        return together / max(1, len(files))

    def relevant_in(self, batch: Ints) -> tuple[Ints, Ints]:
        """The right answers to some rows' questions: places in the batch, and keys."""
        width = self._width
        first = np.searchsorted(self.pair_ids, self.anchor_id[batch] * width)
        counts = np.searchsorted(self.pair_ids, (self.anchor_id[batch] + 1) * width) - first
        row = np.repeat(np.arange(len(batch)), counts)
        shift = np.repeat(first - (np.cumsum(counts) - counts), counts)
        return row, self.pair_ids[shift + np.arange(len(row))] % width

    @cached_property
    def _width(self) -> int:
        return int(self.positive_id.max(initial=0)) + 1

    def numbered(self, anchor_id: Ints, positive_id: Ints) -> Ints:
        """Pairs of keys, each as one number."""
        return anchor_id * self._width + positive_id
