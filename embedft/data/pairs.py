"""From tables of rows to the pairs that are trained on, and the retrieval task that judges them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from embedft.data.split import RowKeys
from embedft.table.keys import Ints, Keys, Mask, codes
from embedft.table.negatives import Negatives
from embedft.table.settings import Positive
from embedft.table.table import Table

log = logging.getLogger(__name__)

RIGHT = 0.5
"""Label from which a positive is a right answer."""


def trained_on(positive: Positive) -> list[str]:
    """The kinds of texts that a question is trained to find, by name."""
    return ["answers", "contexts"] if positive == "both" else [f"{positive}s"]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Some pairs of a table, (pairs,) each.

    Attributes:
        anchor: Text numbers of the questions.
        positive: Text numbers of the answers or contexts.
        anchor_key: Keys of the normalised questions.
        positive_key: Keys of the normalised answers or contexts.
        file_key: Keys of the file names, 0 for none.
        label: float64; None where the table has none.
        row: Row of the table that the pair is of.
    """

    anchor: Ints
    positive: Ints
    anchor_key: Keys
    positive_key: Keys
    file_key: Keys
    label: NDArray[np.float64] | None
    row: Ints

    def __len__(self) -> int:
        return len(self.anchor)

    @property
    def right(self) -> Mask:
        """(pairs,) the positive is a right answer."""
        if self.label is None:
            return np.ones(len(self), dtype=np.bool_)
        return np.asarray(self.label >= RIGHT)

    def only(self, kept: Mask) -> Pairs:
        """Those that a (pairs,) mask keeps."""
        return Pairs(
            self.anchor[kept],
            self.positive[kept],
            self.anchor_key[kept],
            self.positive_key[kept],
            self.file_key[kept],
            None if self.label is None else self.label[kept],
            self.row[kept],
        )

    def after(self, texts: int) -> Pairs:
        """The same pairs where the texts are numbered on from ``texts``."""
        return replace(self, anchor=self.anchor + texts, positive=self.positive + texts)


def row_keys(table: Table, rows: Ints) -> RowKeys:
    """What ties some rows of a table."""
    return RowKeys(
        table.question_key[rows],
        table.answer_key[rows],
        table.file_key[rows],
        None if table.context_key is None else table.context_key[rows],
    )


def pairs_of(table: Table, rows: Ints, positive: Positive) -> Pairs:
    """The pairs of some rows: of each row the answer, the context if it has one, or both."""
    columns: list[tuple[Ints, Ints, Keys]] = []
    if positive != "context":
        assert table.answer is not None
        columns.append((rows, table.answer[rows], table.answer_key[rows]))
    if positive != "answer":
        assert table.context is not None
        assert table.context_key is not None
        owner = rows[table.context[rows] >= 0]
        columns.append((owner, table.context[owner], table.context_key[owner]))
    owner, text = (np.concatenate([column[place] for column in columns]) for place in (0, 1))
    key = np.concatenate([column[2] for column in columns])
    if len(columns) > 1:
        order = np.argsort(owner, kind="stable")  # a row's answer, then its context
        owner, text, key = owner[order], text[order], key[order]
    return Pairs(
        anchor=table.question[owner],
        positive=text,
        anchor_key=table.question_key[owner],
        positive_key=key,
        file_key=table.file_key[owner],
        label=None if table.label is None else table.label[owner],
        row=owner,
    )


def train_rows(train: Pairs, validation: Pairs) -> tuple[TrainRows, TrainRows]:
    """Training and held-out pairs, with codes that are equal for equal texts of both.

    Labels of the held-out pairs are kept only where the training pairs have some, and are 1 where
    the held-out ones have none.
    """
    count = len(train)
    anchor_key = codes(np.concatenate([train.anchor_key, validation.anchor_key]))
    positive_key = codes(np.concatenate([train.positive_key, validation.positive_key]))
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
            anchor_key=anchor_key[:count],
            positive_key=positive_key[:count],
            file=codes(train.file_key),
            labels=labels,
            row=train.row,
        ),
        TrainRows(
            anchor=validation.anchor,
            positive=validation.positive,
            anchor_key=anchor_key[count:],
            positive_key=positive_key[count:],
            file=np.full(len(validation), -1),
            labels=validation_labels,
            row=validation.row,
        ),
    )


FEW_SEVERAL_ANSWERS = 0.002
"""Share of questions with several answers below which batches by topic and a margin find more:
SciQAG has 0.001 and gains, MedQuAD 0.1, and 0.006 in draws of 500 pairs, and loses."""


@dataclass(frozen=True)
class TrainRows:
    """The training pairs as indices.

    Attributes:
        anchor: (rows,) index of the anchor's text in the token store.
        positive: (rows,) index of the positive's text in the token store.
        anchor_key: (rows,) equal where two anchors are the same text (normalised).
        positive_key: (rows,) equal where two positives are the same text (normalised).
        file: (rows,) equal where two rows come from one file; -1 where the row names none.
        labels: (rows,) float32, or None.
        row: (rows,) which good row of the file the pair is of, from 0.
        negatives: Wrong answers that the file names, with keys among those of the positives; None
            where there are none.
    """

    anchor: Ints
    positive: Ints
    anchor_key: Ints
    positive_key: Ints
    file: Ints
    labels: NDArray[np.float32] | None
    row: Ints
    negatives: Negatives | None = None

    def __len__(self) -> int:
        return len(self.anchor)

    def only(self, kept: Mask) -> TrainRows:
        """Those that a (rows,) mask keeps; they have no negatives yet."""
        return TrainRows(
            self.anchor[kept],
            self.positive[kept],
            self.anchor_key[kept],
            self.positive_key[kept],
            self.file[kept],
            None if self.labels is None else self.labels[kept],
            self.row[kept],
        )

    @cached_property
    def right(self) -> Ints:
        """Ascending (anchor, positive) pairs of the rows, each as one number."""
        return np.unique(self.pairs(self.anchor_key, self.positive_key))

    @cached_property
    def several_answers(self) -> float:
        """The share of distinct questions that have more than one answer, from 0 to 1."""
        _, first = np.unique(self.row, return_index=True)  # a row may give two pairs
        distinct = np.unique(self.pairs(self.anchor_key[first], self.positive_key[first]))
        _, answers = np.unique(distinct // self._width, return_counts=True)
        return float((answers > 1).sum() / max(1, len(answers)))

    @property
    def have_wrong_answers(self) -> bool:
        """Whether each question has an answer of another row that is wrong to it."""
        _, answers = np.unique(self.right // self._width, return_counts=True)
        return int(answers.max(initial=0)) < len(np.unique(self.positive_key))

    @property
    def one_answer(self) -> bool:
        """Whether hardly any question has several answers, which would be wrong to each other."""
        return self.several_answers < FEW_SEVERAL_ANSWERS

    @cached_property
    def share_a_file(self) -> float:
        """The share of rows of the file whose ``file_name`` another names, too, from 0 to 1."""
        _, first = np.unique(self.row, return_index=True)  # a row may give two pairs
        files = self.file[first]
        named = files[files >= 0]
        together = int((np.bincount(named)[named] > 1).sum()) if len(named) else 0
        return together / max(1, len(files))

    @property
    def of_whole_files(self) -> bool:
        """Whether most rows have another of their file."""
        return self.share_a_file > 0.5

    def right_of(self, batch: Ints) -> tuple[Ints, Ints]:
        """The right answers to some rows' questions: places in the batch, and keys."""
        width = self._width
        first = np.searchsorted(self.right, self.anchor_key[batch] * width)
        counts = np.searchsorted(self.right, (self.anchor_key[batch] + 1) * width) - first
        row = np.repeat(np.arange(len(batch)), counts)
        shift = np.repeat(first - (np.cumsum(counts) - counts), counts)
        return row, self.right[shift + np.arange(len(row))] % width

    @cached_property
    def _width(self) -> int:
        return int(self.positive_key.max(initial=0)) + 1

    def pairs(self, anchor_key: Ints, positive_key: Ints) -> Ints:
        """Pairs of keys, each as one number."""
        return anchor_key * self._width + positive_key
