"""Which pairs make which batch: a pure function of the pairs, the seed and the epoch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from embedft.table.keys import Ints, Mask, connected, repeats

MAX_LEFT_OUT = 0.05
"""Share of the pairs that an epoch may leave out, so that frequent texts don't make batches small.

In MedQuAD one answer occurs in 348 of 16,359 rows: 348 batches would hold only 42 pairs each.
"""


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """The global batches of one epoch: batch i is ``pairs[offsets[i]:offsets[i + 1]]``."""

    pairs: Ints
    offsets: Ints

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Ints:
        return self.pairs[self.offsets[index] : self.offsets[index + 1]]


def plan_epoch(
    anchor_id: Ints,
    positive_id: Ints,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    max_left_out: float = 0.0,
) -> BatchPlan:
    """Plans one epoch: each pair once, no batch with the same anchor or positive text twice.

    A text may occur in more pairs than there are full batches. It then needs more and smaller
    batches, or, as far as ``max_left_out`` allows, pairs of it are left out of this epoch. They
    rotate over the epochs.

    Pairs that share texts are spread over consecutive batches, which keeps them
    apart without search. Only if there are more of them than batches is a repair needed.

    Args:
        anchor_id: (pairs,) equal numbers for equal anchors, from 0.
        positive_id: (pairs,) equal numbers for equal positives, from 0.
        batch_size: Pairs per batch, of all ranks together.
        seed: Seed of the run.
        epoch: Epoch, from 0.
        max_left_out: Share of the pairs that may be left out, from 0 to below 1.
    """
    n_pairs, size = len(anchor_id), batch_size
    rng = np.random.default_rng([seed, epoch])
    order = _order(anchor_id, positive_id, rng)

    full = -(-n_pairs // size)
    count = _batches((anchor_id, positive_id), full, max_left_out * n_pairs)
    chosen = np.arange(n_pairs)
    for text_id in (anchor_id, positive_id):
        chosen = _rotated(chosen, text_id, count, seed, epoch)
    if len(chosen) < n_pairs:
        order = order[np.isin(order, chosen)]
    if len(order) > size * (count - 1):
        sizes = np.full(count, size)
        sizes[-1] = len(order) - size * (count - 1)
    else:
        sizes = len(order) // count + (np.arange(count) < len(order) % count)
    shuffled = np.append(rng.permutation(count - 1), count - 1)  # a short batch stays the last
    batch_of = np.zeros(n_pairs, dtype=np.int64)
    batch_of[order] = shuffled[_spread(sizes)]
    _repair(batch_of, order, (anchor_id, positive_id), size, rng)

    by_batch = order[np.argsort(batch_of[order], kind="stable")]
    counts = np.bincount(batch_of[order])
    counts = counts[counts > 0]
    return BatchPlan(by_batch, np.concatenate([[0], np.cumsum(counts)]))


def _batches(ids: tuple[Ints, Ints], full: int, max_left_out: float) -> int:
    """The smallest number of batches, at least ``full``, that leaves out few enough pairs."""
    repeated = np.concatenate([np.bincount(text_id) for text_id in ids])
    repeated = repeated[repeated > full]
    few, enough = full, int(repeated.max(initial=full))
    while few < enough:
        middle = (few + enough) // 2
        if np.maximum(repeated - middle, 0).sum() <= max_left_out:
            enough = middle
        else:
            few = middle + 1
    return enough


def _rotated(chosen: Ints, text_id: Ints, count: int, seed: int, epoch: int) -> Ints:
    """The pairs without those of a text that occurs in more than ``count``: others each epoch."""
    repeated = np.bincount(text_id[chosen])
    frequent = np.flatnonzero(repeated[text_id[chosen]] > count)
    if not len(frequent):
        return chosen
    shuffled = np.random.default_rng(seed).permutation(frequent)
    text = text_id[chosen[shuffled]]
    by_text = np.argsort(text, kind="stable")
    text = text[by_text]
    number = np.arange(len(text)) - np.searchsorted(text, text)
    left_out = (number - epoch * count) % repeated[text] >= count
    return np.delete(chosen, shuffled[by_text[left_out]])


def _spread(sizes: Ints) -> Ints:
    """(pairs,) the batch of each pair if batches of these sizes take one pair each in rotation."""
    return np.concatenate([np.flatnonzero(sizes > round_) for round_ in range(sizes.max())])


def _order(anchor_id: Ints, positive_id: Ints, rng: np.random.Generator) -> Ints:
    """A random order in which pairs that share texts are neighbours, by the more frequent text."""
    n_pairs = len(anchor_id)
    shuffled = rng.permutation(n_pairs)
    component = connected(anchor_id, positive_id)
    if np.array_equal(component, np.arange(n_pairs)):
        return shuffled
    anchors, positives = np.bincount(anchor_id), np.bincount(positive_id)
    by_anchor = anchors[anchor_id] >= positives[positive_id]
    text = np.where(by_anchor, anchor_id, len(anchors) + positive_id)
    high = rng.integers(2**32, size=n_pairs, dtype=np.uint64)[component]
    low = rng.integers(2**32, size=len(anchors) + len(positives), dtype=np.uint64)[text]
    sort_by = (high << np.uint64(32)) | low  # two groups that collide by chance do no harm
    return shuffled[np.argsort(sort_by[shuffled], kind="stable")]


_ROUNDS = 12
"""Rounds in which refused pairs try free slots before they get new batches."""


def _repair(
    batch_of: Ints,
    order: Ints,
    ids: tuple[Ints, Ints],
    size: int,
    rng: np.random.Generator,
) -> None:
    """Moves each pair whose text is already in its batch to a batch with room; edits ``batch_of``.

    In each round, all refused pairs draw free slots at once, and keep those of batches without
    their texts. Pairs that find none in ``_ROUNDS`` rounds get new batches. The cost of a round
    grows with its pairs.
    """

    def in_batch(text_id: Ints, pairs: Ints) -> Ints:
        """One number for each text and batch."""
        return text_id[pairs] * len(batch_of) + batch_of[pairs]

    def clashes(pairs: Ints) -> Mask:
        return repeats(in_batch(ids[0], pairs)) | repeats(in_batch(ids[1], pairs))

    clash = clashes(order)
    refused, kept = order[clash], order[~clash]
    if not len(refused):
        return
    taken = [GrowingSet(in_batch(i, kept[np.isin(i[kept], i[refused])])) for i in ids]
    room = size - np.bincount(batch_of[kept], minlength=int(batch_of.max()) + 1)
    tries = 0
    while len(refused):
        if tries == _ROUNDS or not room.any():
            most_repeated = max(int(np.bincount(i[refused]).max()) for i in ids)
            new = max(-(-len(refused) // size), most_repeated)
            room = np.append(np.zeros_like(room), np.full(new, size))  # the old ones were tried
            tries = 0
        tries += 1
        share = 1 + 2 * len(refused) // np.count_nonzero(room)  # far more slots do not help
        slots = rng.permutation(np.repeat(np.arange(len(room)), np.minimum(room, share)))
        moving, without_slot = np.split(refused, [min(len(slots), len(refused))])
        batch_of[moving] = slots[: len(moving)]
        clash = clashes(moving)
        for text_id, known in zip(ids, taken, strict=True):
            clash |= known.holds(in_batch(text_id, moving))
        settled = moving[~clash]
        for text_id, known in zip(ids, taken, strict=True):
            known.add(in_batch(text_id, settled))
        room -= np.bincount(batch_of[settled], minlength=len(room))
        refused = np.append(without_slot, moving[clash])


class GrowingSet:
    """A set of numbers that grows: a large sorted array, and a small one of later numbers."""

    def __init__(self, numbers: Ints) -> None:
        self._parts = [np.sort(numbers), np.empty(0, dtype=np.int64)]

    def add(self, numbers: Ints) -> None:
        """Adds numbers."""
        self._parts[1] = np.sort(np.append(self._parts[1], numbers))

    def holds(self, numbers: Ints) -> Mask:
        """(numbers,) True for those in the set."""
        found = np.zeros(len(numbers), dtype=np.bool_)
        for part in self._parts:
            if len(part):
                index = np.minimum(np.searchsorted(part, numbers), len(part) - 1)
                found |= part[index] == numbers
        return found
