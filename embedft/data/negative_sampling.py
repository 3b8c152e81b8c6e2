"""Negatives for training pairs: those that the file names, and drawn ones."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from embedft.data.pairs import RELEVANT, Pairs, TrainRows
from embedft.errors import InputError
from embedft.table.keys import Ints, combine_hashes, repeats
from embedft.table.negatives import Negatives
from embedft.table.table import Table

log = logging.getLogger(__name__)


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
    right = rows.pair_ids

    def wrong(anchors: Ints, drawn: Ints) -> NDArray[np.bool_]:
        """Where a drawn row may not serve as a negative."""
        code = rows.numbered(rows.anchor_id[anchors], rows.positive_id[drawn])
        place = np.minimum(np.searchsorted(right, code), len(right) - 1)
        same_file = (rows.file_id[drawn] == rows.file_id[anchors]) & (rows.file_id[anchors] >= 0)
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


def train_negatives(table: Table, train: Pairs, held_out: Pairs) -> Negatives | None:
    """The negatives of the training pairs' rows that may be trained on, a list a pair.

    Left out are right answers to the question, in whatever row of the file they stand, and the
    answers of the held-out side, so that no text of it is trained on in any role.
    """
    if table.negatives is None:
        return None
    negatives = table.negatives.of(train.source_row)
    owner = negatives.owner
    right_rows = np.arange(len(table))
    if table.label is not None:
        right_rows = np.flatnonzero(table.label >= RELEVANT)
    right = [table.answer_hash, *([] if table.context_hash is None else [table.context_hash])]
    is_right = np.isin(
        combine_hashes(train.anchor_hash[owner], negatives.key),
        [combine_hashes(table.question_hash[right_rows], answer[right_rows]) for answer in right],
    )
    is_held_out = ~is_right & np.isin(negatives.key, held_out.positive_hash)
    is_twice = repeats(combine_hashes(owner.astype(np.uint64), negatives.key))
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


def coded(negatives: Negatives, train: Pairs, validation: Pairs) -> Negatives:
    """The same with codes as of :func:`train_rows`; those that no positive equals have others."""
    known = np.unique(np.concatenate([train.positive_hash, validation.positive_hash]))
    place = np.searchsorted(known, negatives.key)
    is_known = known[np.minimum(place, len(known) - 1)] == negatives.key
    others = len(known) + np.unique(negatives.key, return_inverse=True)[1]
    return negatives.with_keys(np.where(is_known, place, others))
