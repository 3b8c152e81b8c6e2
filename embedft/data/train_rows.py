"""The pairs to train on as numbers, and which of them are wrong answers to which."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from embedft.data.keys import Ints, Mask
from embedft.data.negatives import Negatives
from embedft.errors import InputError

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


def draw_negatives(
    rows: TrainRows, batch: Ints, count: int, seed: int, at: tuple[int, int]
) -> Ints:
    """Draws, for each row of a global batch, rows whose positives are wrong answers to it.

    A drawn row is of another file, and its positive's text is nowhere a positive of the anchor.

    Args:
        rows: All training rows.
        batch: (B,) rows to draw for.
        count: Negatives a row.
        seed: Seed of the run.
        at: Epoch and index of the batch.

    Returns:
        (B, count) int64 row indices.

    Raises:
        InputError: A row has no possible negative.
    """
    right = rows.right

    def wrong(anchors: Ints, drawn: Ints) -> NDArray[np.bool_]:
        """Where a drawn row may not serve as a negative."""
        code = rows.pairs(rows.anchor_key[anchors], rows.positive_key[drawn])
        place = np.minimum(np.searchsorted(right, code), len(right) - 1)
        same_file = (rows.file[drawn] == rows.file[anchors]) & (rows.file[anchors] >= 0)
        return np.asarray((right[place] == code) | same_file)

    rng = np.random.default_rng([seed, *at])
    anchors = np.repeat(batch, count)
    drawn = rng.integers(len(rows), size=len(anchors))
    for _ in range(20):
        bad = wrong(anchors, drawn)
        if not bad.any():
            break
        drawn[bad] = rng.integers(len(rows), size=int(bad.sum()))
    for slot in np.flatnonzero(wrong(anchors, drawn)):  # rare: most rows are forbidden
        everyone = np.arange(len(rows))
        allowed = everyone[~wrong(np.full(len(rows), anchors[slot]), everyone)]
        if not len(allowed):
            raise InputError(
                "negatives can't be drawn: a training question has no row of another file with "
                "another answer; give rows of more files, labels, or use "
                "MultipleNegativesRankingLoss"
            )
        drawn[slot] = rng.choice(allowed)
    return drawn.reshape(len(batch), count)
