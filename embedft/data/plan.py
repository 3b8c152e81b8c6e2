"""Which rows make which batch: a pure function of the rows, the seed and the epoch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from embedft.table.keys import Ints, Mask, connected, repeats

MAX_LEFT_OUT = 0.05
"""Share of the rows that an epoch may leave out, so that frequent texts don't make batches small.

In MedQuAD one answer stands in 348 of 16,359 rows: as many batches would hold 42 rows each.
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
    """Plans one epoch: each row once, no batch with the same anchor or positive text twice.

    A text that stands in more rows than there are full batches needs more, smaller ones; or, as far
    as ``max_left_out`` allows, some of its rows wait for another epoch. They take turns, or, in
    batches by topic or file, where a row may find no batch without its text, wait by chance.

    Rows that are tied by shared texts are dealt out to consecutive batches like cards, which keeps
    them apart without search; only ties longer than the number of batches need a repair.

    With an order of topics, a batch is a stretch of it instead, and a tied row moves to another
    batch. Where stretches begin, and which pieces near an end fall into which, is drawn anew for
    each epoch; a piece, an eighth of a batch, is cut by a batch's end alone. With files, the order
    is a random one of pieces of files, each an eighth of a batch at most.

    Args:
        anchor_id: (rows,) equal numbers for equal anchors, from 0.
        positive_id: (rows,) equal numbers for equal positives, from 0.
        batch_size: Rows a batch, those of all ranks together.
        seed: Seed of the run.
        epoch: Epoch, from 0.
        topic_position: (rows,) place of each row in an order of topics; None for batches at random.
        file: (rows,) equal where two rows are of one file, -1 where a row names none; None where it
            does not matter. Topics go before files.
        max_left_out: Share of the rows that may be left out, from 0 to below 1.
    """
    rows, size = len(anchor_id), batch_size
    rng = np.random.default_rng([seed, epoch])
    if topic_position is not None:
        order = _by_topic(topic_position, max(1, size // _PIECES), size, rng)
    elif file is not None:
        order = _by_file(file, max(1, size // _PIECES), rng)
    else:
        order = _order(anchor_id, positive_id, rng)

    full = -(-rows // size)
    count = _batches((anchor_id, positive_id), full, max_left_out * rows)
    chosen = np.arange(rows)
    for key in (anchor_id, positive_id):
        chosen = _in_turn(chosen, key, count, seed, epoch)
    if len(chosen) < rows:
        order = order[np.isin(order, chosen)]
    if len(order) > size * (count - 1):
        sizes = np.full(count, size)
        sizes[-1] = len(order) - size * (count - 1)
    else:
        sizes = len(order) // count + (np.arange(count) < len(order) % count)
    shuffled = np.append(rng.permutation(count - 1), count - 1)  # a short batch stays the last
    batch_of = np.zeros(rows, dtype=np.int64)
    in_stretches = topic_position is not None or file is not None
    dealt = np.repeat(np.arange(count), sizes) if in_stretches else _dealt(sizes)
    batch_of[order] = shuffled[dealt]
    more = max_left_out * rows - (rows - len(order)) if in_stretches else 0.0
    waits = _repair(batch_of, order, (anchor_id, positive_id), size, more, rng)
    if len(waits):
        order = order[np.isin(order, waits, invert=True)]

    by_batch = order[np.argsort(batch_of[order], kind="stable")]
    counts = np.bincount(batch_of[order])
    counts = counts[counts > 0]
    return BatchPlan(by_batch, np.concatenate([[0], np.cumsum(counts)]))


def _batches(keys: tuple[Ints, Ints], full: int, max_left_out: float) -> int:
    """The least number of batches, at least ``full``, in which no more rows have to wait."""
    repeated = np.concatenate([np.bincount(key) for key in keys])
    repeated = repeated[repeated > full]
    few, enough = full, int(repeated.max(initial=full))
    while few < enough:
        middle = (few + enough) // 2
        if np.maximum(repeated - middle, 0).sum() <= max_left_out:
            enough = middle
        else:
            few = middle + 1
    return enough


def _in_turn(chosen: Ints, key: Ints, count: int, seed: int, epoch: int) -> Ints:
    """The rows without those of a text that stands in more than ``count``: others each epoch."""
    repeated = np.bincount(key[chosen])
    frequent = np.flatnonzero(repeated[key[chosen]] > count)
    if not len(frequent):
        return chosen
    shuffled = np.random.default_rng(seed).permutation(frequent)
    text = key[chosen[shuffled]]
    by_text = np.argsort(text, kind="stable")
    text = text[by_text]
    turn = np.arange(len(text)) - np.searchsorted(text, text)
    waits = (turn - epoch * count) % repeated[text] >= count
    return np.delete(chosen, shuffled[by_text[waits]])


def _dealt(sizes: Ints) -> Ints:
    """(rows,) the batch of each card when they are dealt in turn to batches of these sizes."""
    return np.concatenate([np.flatnonzero(sizes > turn) for turn in range(sizes.max())])


def _order(anchor_id: Ints, positive_id: Ints, rng: np.random.Generator) -> Ints:
    """A random order in which tied rows are neighbours, above all those of a frequent text."""
    rows = len(anchor_id)
    shuffled = rng.permutation(rows)
    component = connected(anchor_id, positive_id)
    if np.array_equal(component, np.arange(rows)):
        return shuffled
    anchors, positives = np.bincount(anchor_id), np.bincount(positive_id)
    by_anchor = anchors[anchor_id] >= positives[positive_id]
    text = np.where(by_anchor, anchor_id, len(anchors) + positive_id)
    high = rng.integers(2**32, size=rows, dtype=np.uint64)[component]
    low = rng.integers(2**32, size=len(anchors) + len(positives), dtype=np.uint64)[text]
    place = (high << np.uint64(32)) | low  # two ties that fall together by chance do no harm
    return shuffled[np.argsort(place[shuffled], kind="stable")]


_PIECES = 8
"""Pieces of files or topics that a full batch holds: a large file must not fill it."""


def _by_topic(place: Ints, most: int, size: int, rng: np.random.Generator) -> Ints:
    """The order of topics, ``most`` neighbours a piece; each piece moves on by up to a batch."""
    piece = place // most
    moved = piece * most + size * rng.random(piece.max() + 1)[piece]
    return np.roll(np.lexsort((place, moved)), rng.integers(len(place)))


def _by_file(file: Ints, most: int, rng: np.random.Generator) -> Ints:
    """A random order in which up to ``most`` rows of one file follow each other."""
    shuffled = rng.permutation(len(file))
    by_file = shuffled[np.argsort(file[shuffled], kind="stable")]
    file = file[by_file]
    place = np.arange(len(file)) - np.searchsorted(file, file)
    piece = np.cumsum((place % most == 0) | (file < 0)) - 1
    turn = rng.permutation(len(file))[piece]
    return by_file[np.argsort(turn, kind="stable")]


_ROUNDS = 12
"""Rounds in which homeless rows look for a place before they get new batches."""


def _repair(
    batch_of: Ints,
    order: Ints,
    keys: tuple[Ints, Ints],
    size: int,
    max_left_out: float,
    rng: np.random.Generator,
) -> Ints:
    """Moves each row whose text already stands in its batch to a batch with room, in place.

    All homeless rows draw free places at once and keep those where they clash with nobody; what
    finds none in some rounds waits, if it is no more than may, or else gets new batches. A round
    costs as much as its rows. Returns the rows that wait.
    """
    rows = len(batch_of)

    def pairs(key: Ints, of: Ints) -> Ints:
        """A number for each (text, batch)."""
        return key[of] * rows + batch_of[of]

    def clashes(of: Ints) -> Mask:
        return repeats(pairs(keys[0], of)) | repeats(pairs(keys[1], of))

    clash = clashes(order)
    homeless, placed = order[clash], order[~clash]
    if not len(homeless):
        return homeless
    taken = [Taken(pairs(key, placed[np.isin(key[placed], key[homeless])])) for key in keys]
    room = size - np.bincount(batch_of[placed], minlength=int(batch_of.max()) + 1)
    tries = 0
    while len(homeless):
        if tries == _ROUNDS or not room.any():
            if len(homeless) <= max_left_out:
                break
            most_repeated = max(int(np.bincount(key[homeless]).max()) for key in keys)
            new = max(-(-len(homeless) // size), most_repeated)
            room = np.append(np.zeros_like(room), np.full(new, size))  # the old ones were tried
            tries = 0
        tries += 1
        share = 1 + 2 * len(homeless) // np.count_nonzero(room)  # far more places are no help
        places = rng.permutation(np.repeat(np.arange(len(room)), np.minimum(room, share)))
        moving, waiting = np.split(homeless, [min(len(places), len(homeless))])
        batch_of[moving] = places[: len(moving)]
        refused = clashes(moving)
        for key, known in zip(keys, taken, strict=True):
            refused |= known.holds(pairs(key, moving))
        settled = moving[~refused]
        for key, known in zip(keys, taken, strict=True):
            known.add(pairs(key, settled))
        room -= np.bincount(batch_of[settled], minlength=len(room))
        homeless = np.append(waiting, moving[refused])
    return homeless


class Taken:
    """A set of numbers that grows: a large sorted array, and a small one of what came later."""

    def __init__(self, numbers: Ints) -> None:
        self._parts = [np.sort(numbers), np.empty(0, dtype=np.int64)]

    def add(self, numbers: Ints) -> None:
        """Adds some."""
        self._parts[1] = np.sort(np.append(self._parts[1], numbers))

    def holds(self, numbers: Ints) -> Mask:
        """(numbers,) True for those in the set."""
        found = np.zeros(len(numbers), dtype=np.bool_)
        for part in self._parts:
            if len(part):
                place = np.minimum(np.searchsorted(part, numbers), len(part) - 1)
                found |= part[place] == numbers
        return found
