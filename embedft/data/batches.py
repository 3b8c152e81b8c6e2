"""Which rows make which batch: a pure function of the rows, the seed and the epoch.

Shape suffixes: B rows of a batch on this rank, N drawn negatives a row, P labelled pairs,
T tokens of a packed batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, from_numpy
from torch.utils.data import Dataset, Sampler

from embedft.data.tokens import TokenStore
from embedft.errors import InputError

Ints = NDArray[np.int64]


class TrainBatch(NamedTuple):
    """One rank's share of a global batch, packed.

    Attributes:
        input_ids: (T,) int64, the texts one after the other: B anchors, B positives, B·N negatives
            (the N of the first row, then those of the second, ...).
        lengths: (B·(2 + N),) int64, tokens a text.
        labels: (B,) float32 labels of the file's pairs; None where the file has none.
        rows: (B,) int64, indices of the training rows.
        epoch: Epoch, from 0.
        batch_index: Index of the global batch in its epoch, from 0.
        seed: Seed of everything random in this step on this rank.
    """

    input_ids: Tensor
    lengths: Tensor
    labels: Tensor | None
    rows: Tensor
    epoch: int
    batch_index: int
    seed: int


@dataclass(frozen=True, slots=True)
class TrainRows:
    """The training pairs as indices.

    Attributes:
        anchor: (rows,) index of the anchor's text in the token store.
        positive: (rows,) index of the positive's text in the token store.
        anchor_key: (rows,) equal where two anchors are the same text (normalised).
        positive_key: (rows,) equal where two positives are the same text (normalised).
        file: (rows,) equal where two rows come from one file; -1 where the row names none.
        labels: (rows,) float32, or None.
    """

    anchor: Ints
    positive: Ints
    anchor_key: Ints
    positive_key: Ints
    file: Ints
    labels: NDArray[np.float32] | None

    def __len__(self) -> int:
        return len(self.anchor)


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """The global batches of one epoch: batch i is ``rows[offsets[i]:offsets[i + 1]]``."""

    rows: Ints
    offsets: Ints

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Ints:
        return self.rows[self.offsets[index] : self.offsets[index + 1]]


def connected(anchor_key: Ints, positive_key: Ints) -> Ints:
    """(rows,) the smallest row reachable over shared anchors and positives."""
    component = np.arange(len(anchor_key))
    while True:
        before = component
        for key in (anchor_key, positive_key):
            smallest = np.full(key.max() + 1, len(key))
            np.minimum.at(smallest, key, component)
            component = smallest[key]
        component = component[component]
        if np.array_equal(before, component):
            return component


def plan_epoch(
    anchor_key: Ints,
    positive_key: Ints,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    world_size: int = 1,
) -> BatchPlan:
    """Plans one epoch: each row once, no batch with the same anchor or positive text twice.

    Rows that are tied by shared texts are dealt out to consecutive batches like cards, which keeps
    them apart without search; only ties longer than the number of batches need a repair.
    W ranks with batch B see the global batches that one process sees with batch W·B.

    Args:
        anchor_key: (rows,) equal numbers for equal anchors, from 0.
        positive_key: (rows,) equal numbers for equal positives, from 0.
        batch_size: Rows a rank.
        seed: Seed of the run.
        epoch: Epoch, from 0.
        world_size: Number of ranks. Each batch is cut to a multiple of it, so that ranks get equal
            shares: at most ``world_size - 1`` rows of an odd batch wait for another epoch.
    """
    rows = len(anchor_key)
    size = batch_size * world_size
    rng = np.random.default_rng([seed, epoch])
    component = connected(anchor_key, positive_key)
    order = np.lexsort((rng.permutation(rows), rng.permutation(rows)[component]))

    full = -(-rows // size)
    most_repeated = max(np.bincount(anchor_key).max(), np.bincount(positive_key).max())
    count = int(max(full, most_repeated))
    if count == full:
        sizes = np.full(count, size)
        sizes[-1] = rows - size * (count - 1)
    else:
        sizes = rows // count + (np.arange(count) < rows % count)
    dealt = np.concatenate([np.flatnonzero(sizes > turn) for turn in range(sizes.max())])
    shuffled = np.append(rng.permutation(count - 1), count - 1)  # a short batch stays the last
    batch_of = np.empty(rows, dtype=np.int64)
    batch_of[order] = shuffled[dealt]
    _repair(batch_of, order, anchor_key, positive_key, size)

    by_batch = order[np.argsort(batch_of[order], kind="stable")]
    counts = np.bincount(batch_of)
    if world_size > 1:
        place = np.arange(rows) - np.repeat(np.cumsum(counts) - counts, counts)
        counts = counts // world_size * world_size
        by_batch = by_batch[place < counts[batch_of[by_batch]]]
    counts = counts[counts > 0]
    return BatchPlan(by_batch, np.concatenate([[0], np.cumsum(counts)]))


def _repair(batch_of: Ints, order: Ints, anchor_key: Ints, positive_key: Ints, size: int) -> None:
    """Moves each row whose text already stands in its batch to the first batch with room."""
    clash = np.zeros(len(batch_of), dtype=np.bool_)
    for key in (anchor_key, positive_key):
        by_key = order[np.lexsort((batch_of[order], key[order]))]
        same = (key[by_key][1:] == key[by_key][:-1]) & (
            batch_of[by_key][1:] == batch_of[by_key][:-1]
        )
        clash[by_key[1:][same]] = True
    if not clash.any():
        return
    room = size - np.bincount(batch_of[~clash], minlength=batch_of.max() + 1)
    homeless = order[clash[order]]
    batch_of[homeless] = -1
    for row in homeless:
        tied = (anchor_key == anchor_key[row]) | (positive_key == positive_key[row])
        free = room > 0
        taken = batch_of[tied]
        free[taken[taken >= 0]] = False
        if free.any():
            target = int(np.argmax(free))
        else:
            target = len(room)
            room = np.append(room, size)
        batch_of[row] = target
        room[target] -= 1


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
    base = int(rows.positive_key.max()) + 1
    right = np.unique(rows.anchor_key * base + rows.positive_key)

    def wrong(anchors: Ints, drawn: Ints) -> NDArray[np.bool_]:
        """Where a drawn row may not serve as a negative."""
        code = rows.anchor_key[anchors] * base + rows.positive_key[drawn]
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


def step_seed(seed: int, epoch: int, index: int, rank: int) -> int:
    """Seed of one step on one rank, in [0, 2**63): nothing random depends on what ran before."""
    state = np.random.SeedSequence([seed, epoch, index, rank]).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


class EpochBatches(Dataset[TrainBatch]):
    """One rank's batches of one epoch, made on demand."""

    def __init__(
        self,
        rows: TrainRows,
        plan: BatchPlan,
        tokens: TokenStore,
        *,
        seed: int,
        epoch: int,
        rank: int = 0,
        world_size: int = 1,
        negatives_per_pair: int = 0,
    ) -> None:
        self.rows, self.plan, self.tokens = rows, plan, tokens
        self.seed, self.epoch = seed, epoch
        self.rank, self.world_size = rank, world_size
        self.negatives_per_pair = negatives_per_pair

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, index: int) -> TrainBatch:
        batch = self.plan[index]
        share = len(batch) // self.world_size
        mine = slice(self.rank * share, (self.rank + 1) * share)
        local = batch[mine]
        texts = [self.rows.anchor[local], self.rows.positive[local]]
        if self.negatives_per_pair:
            drawn = draw_negatives(
                self.rows, batch, self.negatives_per_pair, self.seed, (self.epoch, index)
            )
            texts.append(self.rows.positive[drawn[mine].ravel()])
        input_ids, lengths = self.tokens.pack(np.concatenate(texts))
        labels = None if self.rows.labels is None else from_numpy(self.rows.labels[local])
        seed = step_seed(self.seed, self.epoch, index, self.rank)
        return TrainBatch(
            input_ids, lengths, labels, from_numpy(local.copy()), self.epoch, index, seed
        )


class FromPosition(Sampler[int]):
    """Yields the batch indices from ``start`` on; its length is the whole epoch's.

    Lightning counts the batches that were consumed before a resume by itself and compares the sum
    with the loader's length.
    """

    def __init__(self, length: int, start: int) -> None:
        self.length, self.start = length, start

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.length))

    def __len__(self) -> int:
        return self.length


class EvalBatch(NamedTuple):
    """Some texts to embed, packed.

    Attributes:
        input_ids: (T,) int64.
        lengths: (texts,) int64, tokens a text.
        texts: (texts,) int64, which texts of the store they are.
    """

    input_ids: Tensor
    lengths: Tensor
    texts: Tensor


class TextBatches(Dataset[EvalBatch]):
    """Texts in batches of like lengths, the longest first; rank r takes every W-th batch."""

    def __init__(
        self, tokens: TokenStore, texts: Ints, batch_size: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self.tokens = tokens
        by_length = texts[np.argsort(-tokens.lengths[texts], kind="stable")]
        starts = range(rank * batch_size, len(by_length), world_size * batch_size)
        self.batches = [by_length[start : start + batch_size] for start in starts]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> EvalBatch:
        texts = self.batches[index]
        return EvalBatch(*self.tokens.pack(texts), from_numpy(texts))
