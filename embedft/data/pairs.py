"""From tables of rows to the pairs that are trained on, and the retrieval task that judges them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from embedft.data.blocks import Positive
from embedft.data.keys import Ints, Keys, Mask, codes, first_equal, mixed, repeats
from embedft.data.negatives import Negatives
from embedft.data.splits import RowKeys
from embedft.data.table import Table
from embedft.data.train_rows import TrainRows
from embedft.errors import InputError
from embedft.evaluation.retrieval import Relevant, RetrievalTask

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


def train_negatives(table: Table, train: Pairs, held_out: Pairs) -> Negatives | None:
    """The negatives of the training pairs' rows that may be trained on, a list a pair.

    Left out are right answers to the question, in whatever row of the file they stand, and the
    answers of the held-out side, so that no text of it is trained on in any role.
    """
    if table.negatives is None:
        return None
    negatives = table.negatives.of(train.row)
    owner = negatives.owner
    right_rows = np.arange(len(table))
    if table.label is not None:
        right_rows = np.flatnonzero(table.label >= RIGHT)
    right = [table.answer_key, *([] if table.context_key is None else [table.context_key])]
    is_right = np.isin(
        mixed(train.anchor_key[owner], negatives.key),
        [mixed(table.question_key[right_rows], answer[right_rows]) for answer in right],
    )
    is_held_out = ~is_right & np.isin(negatives.key, held_out.positive_key)
    is_twice = repeats(mixed(owner.astype(np.uint64), negatives.key))
    kept = negatives.only(~(is_right | is_held_out | is_twice))
    log.info(
        "hard negatives: %d for %d of %d pairs; left out: %d that are right answers to their "
        "question, %d that are answers of the held-out side",
        len(kept.text),
        np.count_nonzero(kept.counts),
        len(train),
        np.count_nonzero(is_right),
        np.count_nonzero(is_held_out),
    )
    return kept if len(kept.text) else None


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


def coded(negatives: Negatives, train: Pairs, validation: Pairs) -> Negatives:
    """The same with codes as of :func:`train_rows`; those that no positive equals have others."""
    known = np.unique(np.concatenate([train.positive_key, validation.positive_key]))
    place = np.searchsorted(known, negatives.key)
    is_known = known[np.minimum(place, len(known) - 1)] == negatives.key
    others = len(known) + np.unique(negatives.key, return_inverse=True)[1]
    return negatives.with_keys(np.where(is_known, place, others))


def retrieval_task(train: TrainRows, validation: TrainRows, right: Mask) -> RetrievalTask:
    """Held-out questions against all distinct positives of the whole set.

    Of equal questions, and of equal positives, the first text stands for all.

    Args:
        train: The pairs of the training side, those that are not trained on included.
        validation: Held-out pairs.
        right: (held-out pairs,) the pair's positive is a right answer.

    Raises:
        InputError: No held-out question has a right answer.
    """
    if not right.any():
        raise InputError(
            "label: no held-out pair reaches 0.5, so nothing can be measured; bring some "
            "by --validation_jsonl, or hold others out by --data.split_seed 1"
        )
    text = np.concatenate([train.positive, validation.positive])
    key = np.concatenate([train.positive_key, validation.positive_key])
    first = np.full(int(key.max()) + 1, len(key))
    np.minimum.at(first, key, np.arange(len(key)))
    corpus_keys = np.flatnonzero(first < len(key))
    rows = np.flatnonzero(right)
    first_row = first_equal(validation.anchor_key[rows])
    is_query = first_row == np.arange(len(rows))
    query = (np.cumsum(is_query) - 1)[first_row]
    place = np.searchsorted(corpus_keys, validation.positive_key[rows])
    query, place = np.divmod(np.unique(query * len(corpus_keys) + place), len(corpus_keys))
    return RetrievalTask(
        queries=validation.anchor[rows[is_query]],
        corpus=text[first[corpus_keys]],
        corpus_keys=corpus_keys,
        relevant=Relevant(place, np.append(0, np.cumsum(np.bincount(query)))),
        rows=validation.row[rows[is_query]],
    )
