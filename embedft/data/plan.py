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
    topic_position: Ints | None = None,
    file: Ints | None = None,
    max_left_out: float = 0.0,
) -> BatchPlan:
    """Plans one epoch: each pair once, no batch with the same anchor or positive text twice.

    A text may occur in more pairs than there are full batches. It then needs more and smaller
    batches, or, as far as ``max_left_out`` allows, pairs of it are left out of this epoch. They
    rotate over the epochs. In batches by topic or file, a pair that finds no batch without its
    text is left out by chance.

    In random batches, pairs that share texts are spread over consecutive batches, which keeps them
    apart without search. Only if there are more of them than batches is a repair needed.

    With an order of topics, a batch is a section of it instead, and pairs that share texts move to
    other batches. Each epoch draws where sections begin, and to which section a piece near an end
    belongs. A piece has an eighth of a batch; only the end of a batch cuts it. With files, the
    order is a random one of pieces of files, each at most an eighth of a batch.

    Args:
        anchor_id: (pairs,) equal numbers for equal anchors, from 0.
        positive_id: (pairs,) equal numbers for equal positives, from 0.
        batch_size: Pairs per batch, of all ranks together.
        seed: Seed of the run.
        epoch: Epoch, from 0.
        topic_position: (pairs,) position of each pair in an order of topics, or None.
        file: (pairs,) equal for pairs of one file, -1 if a pair names none; None if files don't
            matter. Topics take precedence over files.
        max_left_out: Share of the pairs that may be left out, from 0 to below 1.
    """
    n_pairs, size = len(anchor_id), batch_size
    rng = np.random.default_rng([seed, epoch])
    if topic_position is not None:
        order = _by_topic(topic_position, max(1, size // _PIECES), size, rng)
    elif file is not None:
        order = _by_file(file, max(1, size // _PIECES), rng)
    else:
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
    in_sections = topic_position is not None or file is not None
    by_position = np.repeat(np.arange(count), sizes) if in_sections else _spread(sizes)
    batch_of[order] = shuffled[by_position]
    more = max_left_out * n_pairs - (n_pairs - len(order)) if in_sections else 0.0
    left_out = _repair(batch_of, order, (anchor_id, positive_id), size, more, rng)
    if len(left_out):
        order = order[np.isin(order, left_out, invert=True)]

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


_PIECES = 8
"""Pieces of files or topics that a full batch holds: a large file must not fill it."""


def _by_topic(position: Ints, most: int, size: int, rng: np.random.Generator) -> Ints:
    """The order of topics in pieces of ``most`` neighbours, each moved on by up to a batch."""
    piece = position // most
    moved = piece * most + size * rng.random(piece.max() + 1)[piece]
    return np.roll(np.lexsort((position, moved)), rng.integers(len(position)))


def _by_file(file: Ints, most: int, rng: np.random.Generator) -> Ints:
    """A random order in which up to ``most`` pairs of one file follow each other."""
    shuffled = rng.permutation(len(file))
    by_file = shuffled[np.argsort(file[shuffled], kind="stable")]
    file = file[by_file]
    number = np.arange(len(file)) - np.searchsorted(file, file)
    piece = np.cumsum((number % most == 0) | (file < 0)) - 1
    sort_by = rng.permutation(len(file))[piece]
    return by_file[np.argsort(sort_by, kind="stable")]


_ROUNDS = 12
"""Rounds in which refused pairs try free slots before they get new batches."""


def _repair(
    batch_of: Ints,
    order: Ints,
    ids: tuple[Ints, Ints],
    size: int,
    max_left_out: float,
    rng: np.random.Generator,
) -> Ints:
    """Moves each pair whose text is already in its batch to a batch with room; edits ``batch_of``.

    In each round, all refused pairs draw free slots at once, and keep those of batches without
    their texts. Pairs that find none in ``_ROUNDS`` rounds are left out, if they are few enough, or
    get new batches. The cost of a round grows with its pairs.

    Returns:
        The pairs that are left out.
    """

    def in_batch(text_id: Ints, pairs: Ints) -> Ints:
        """One number for each text and batch."""
        return text_id[pairs] * len(batch_of) + batch_of[pairs]

    def clashes(pairs: Ints) -> Mask:
        return repeats(in_batch(ids[0], pairs)) | repeats(in_batch(ids[1], pairs))

    clash = clashes(order)
    refused, kept = order[clash], order[~clash]
    if not len(refused):
        return refused
    taken = [GrowingSet(in_batch(i, kept[np.isin(i[kept], i[refused])])) for i in ids]
    room = size - np.bincount(batch_of[kept], minlength=int(batch_of.max()) + 1)
    tries = 0
    while len(refused):
        if tries == _ROUNDS or not room.any():
            if len(refused) <= max_left_out:
                break
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
    return refused


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
