"""Negatives for training pairs: those that the file names, and those that are drawn."""

from __future__ import annotations

import logging

import numpy as np

from embedft.data.pairs import RELEVANT, Pairs
from embedft.errors import InputError
from embedft.table.keys import Ints, Mask, combine_hashes, repeats
from embedft.table.negatives import Negatives
from embedft.table.table import Table

log = logging.getLogger(__name__)


def draw_negatives(
    pairs: Pairs, batch: Ints, count: int, seed: int, epoch_and_batch: tuple[int, int]
) -> Ints:
    """Draws, for each pair of a global batch, pairs whose positives are irrelevant to its anchor.

    A drawn pair comes from another file, and its positive is nowhere a positive of the anchor.

    Args:
        pairs: All training pairs.
        batch: (B,) indices of the pairs to draw for.
        count: Negatives per pair.
        seed: Seed of the run.
        epoch_and_batch: Epoch and index of the batch.

    Returns:
        (B, count) int64 indices of pairs.

    Raises:
        InputError: A pair has no possible negative.
    """
    known = pairs.pair_ids

    def refused(anchors: Ints, drawn: Ints) -> Mask:
        pair = pairs.pair_id(pairs.anchor_id[anchors], pairs.positive_id[drawn])
        index = np.minimum(np.searchsorted(known, pair), len(known) - 1)
        file_id = pairs.file_id[anchors]
        same_file = (pairs.file_id[drawn] == file_id) & (file_id >= 0)
        return np.asarray((known[index] == pair) | same_file)

    rng = np.random.default_rng([seed, *epoch_and_batch])
    anchors = np.repeat(batch, count)
    drawn = rng.integers(len(pairs), size=len(anchors))
    for _ in range(20):
        bad = refused(anchors, drawn)
        if not bad.any():
            break
        drawn[bad] = rng.integers(len(pairs), size=int(bad.sum()))
    for slot in np.flatnonzero(refused(anchors, drawn)):  # rare: most pairs are refused
        all_pairs = np.arange(len(pairs))
        allowed = all_pairs[~refused(np.full(len(pairs), anchors[slot]), all_pairs)]
        if not len(allowed):
            raise InputError(
                "negatives can't be drawn: a training question has no row of another file with "
                "another answer; give rows of more files, labels, or use "
                "MultipleNegativesRankingLoss"
            )
        drawn[slot] = rng.choice(allowed)
    return drawn.reshape(len(batch), count)


def named_negatives(table: Table, train: Pairs, encoded: tuple[Pairs, Pairs]) -> Negatives | None:
    """The hard negatives that a file names for its training pairs, a list for each pair.

    Left out are relevant answers to the question, in any row of the file, and answers of held-out
    pairs, so that no held-out text is trained on in any role.

    Args:
        table: The file.
        train: The pairs that are trained on.
        encoded: All training pairs and the held-out pairs, whose positives have ids.

    Returns:
        Their keys are ids: that of an equal positive, or a larger one. None if none are left.
    """
    if table.negatives is None:
        return None
    negatives = table.negatives.of(train.source_row)
    owner = negatives.owner
    relevant_rows = np.arange(len(table))
    if table.label is not None:
        relevant_rows = np.flatnonzero(table.label >= RELEVANT)
    answers = [table.answer_hash, *([] if table.context_hash is None else [table.context_hash])]
    is_relevant = np.isin(
        combine_hashes(train.anchor_hash[owner], negatives.key),
        [combine_hashes(table.question_hash[relevant_rows], a[relevant_rows]) for a in answers],
    )
    is_held_out = ~is_relevant & np.isin(negatives.key, encoded[1].positive_hash)
    is_repeated = repeats(combine_hashes(owner.astype(np.uint64), negatives.key))
    kept = negatives.only(~(is_relevant | is_held_out | is_repeated))
    log.info(
        "hard negatives: %d for %d of %d pairs; left out: %d that are relevant answers to their "
        "question, %d that are answers of held-out pairs",
        len(kept.text),
        np.count_nonzero(kept.counts),
        len(train),
        np.count_nonzero(is_relevant),
        np.count_nonzero(is_held_out),
    )
    return _with_ids(kept, encoded) if len(kept.text) else None


def _with_ids(negatives: Negatives, encoded: tuple[Pairs, Pairs]) -> Negatives:
    hashes, ids = (
        np.concatenate([getattr(pairs, name) for pairs in encoded])
        for name in ("positive_hash", "positive_id")
    )
    known, first = np.unique(hashes, return_index=True)
    index = np.minimum(np.searchsorted(known, negatives.key), len(known) - 1)
    larger = len(known) + np.unique(negatives.key, return_inverse=True)[1]
    return negatives.with_keys(np.where(known[index] == negatives.key, ids[first[index]], larger))
