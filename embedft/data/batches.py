"""Packed batches, made on demand from token ids and a plan.

Shape suffixes: B pairs of a batch on this rank, G pairs of the batch on all ranks, W ranks,
N negatives per pair, S = B·N, T tokens of a packed batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from torch import Tensor, from_numpy
from torch.utils.data import Dataset, Sampler

from embedft.data.candidates import Candidates
from embedft.data.negative_sampling import draw_negatives
from embedft.data.pairs import Pairs
from embedft.data.plan import BatchPlan
from embedft.table.keys import Ints
from embedft.table.tokens import TokenStore


class TrainBatch(NamedTuple):
    """One rank's share of a global batch, packed.

    Attributes:
        input_ids: (T,) int64, the texts one after the other: B anchors, B positives, and at most
            B·N negatives (those of the first pair, then those of the second, ...). A rank without a
            pair in a short batch holds the texts of another rank's first pair, which don't count.
        lengths: (at most B·(2 + N),) int64, tokens per text.
        labels: (G,) float32, labels of the pairs of all ranks; None if the file has none.
        pairs: (B,) int64, indices of the training pairs.
        pairs_per_rank: (W,) B of each rank; their sum is G.
        epoch: Epoch, from 0.
        batch_index: Index of the global batch in its epoch, from 0.
        seed: Seed of everything random in this step on this rank.
        candidates: Which negatives there are, and which candidates count for which question; None
            if there are all and all count.
    """

    input_ids: Tensor
    lengths: Tensor
    labels: Tensor | None
    pairs: Tensor
    pairs_per_rank: tuple[int, ...]
    epoch: int
    batch_index: int
    seed: int
    candidates: Candidates | None = None


def step_seed(seed: int, epoch: int, index: int, rank: int) -> int:
    """Seed of one step on one rank, in [0, 2**63): nothing random depends on what ran before."""
    state = np.random.SeedSequence([seed, epoch, index, rank]).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


class EpochBatches(Dataset[TrainBatch]):
    """One rank's batches of one epoch, made on demand."""

    def __init__(
        self,
        pairs: Pairs,
        plan: BatchPlan,
        tokens: TokenStore,
        *,
        seed: int,
        epoch: int,
        rank: int = 0,
        world_size: int = 1,
        negatives_per_pair: int = 0,
        hard_negatives: int = 0,
        pairwise_negatives: bool = False,
    ) -> None:
        self.pairs, self.plan, self.tokens = pairs, plan, tokens
        self.seed, self.epoch = seed, epoch
        self.rank, self.world_size = rank, world_size
        self.negatives_per_pair = negatives_per_pair
        self.hard_negatives = hard_negatives
        self.pairwise_negatives = pairwise_negatives

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, index: int) -> TrainBatch:
        planned = self.plan[index]
        order, counts = self._shares(planned)
        batch = planned[order]
        start = sum(counts[: self.rank])
        of_rank = slice(start, start + counts[self.rank])
        local = batch[of_rank]
        embedded = of_rank if len(local) else slice(1)
        texts = [self.pairs.anchor[batch[embedded]], self.pairs.positive[batch[embedded]]]
        tables = [(np.empty((len(batch), 0), np.int64),) * 2]  # texts and ids of negatives
        if self.negatives_per_pair:
            drawn = draw_negatives(
                self.pairs, planned, self.negatives_per_pair, self.seed, (self.epoch, index)
            )[order]
            tables.append((self.pairs.positive[drawn], self.pairs.positive_id[drawn]))
        if self.hard_negatives:
            assert self.pairs.negatives is not None
            tables.append(self.pairs.negatives.of_epoch(batch, self.hard_negatives, self.epoch))
        texts_GN, ids_GN = (np.concatenate(parts, axis=1) for parts in zip(*tables, strict=True))
        candidates = Candidates.of(
            self.pairs,
            batch,
            embedded,
            (texts_GN, ids_GN),
            pairwise_negatives=self.pairwise_negatives,
        )
        local_S = texts_GN[embedded].ravel()
        texts.append(local_S if candidates is None else local_S[candidates.filled_slots.numpy()])
        input_ids, lengths = self.tokens.pack(np.concatenate(texts))
        return TrainBatch(
            input_ids,
            lengths,
            None if self.pairs.labels is None else from_numpy(self.pairs.labels[batch]),
            from_numpy(local.copy()),
            counts,
            self.epoch,
            index,
            step_seed(self.seed, self.epoch, index, self.rank),
            candidates,
        )

    def _shares(self, batch: Ints) -> tuple[Ints, tuple[int, ...]]:
        """The order of the pairs by rank, and how many each rank has.

        Ranks take one pair each, from the longest to the shortest, in alternating order: all ranks
        wait for the one with the most tokens.
        """
        if self.world_size == 1:
            return np.arange(len(batch)), (len(batch),)
        tokens = self.tokens.lengths(self.pairs.anchor[batch])
        tokens = tokens + self.tokens.lengths(self.pairs.positive[batch])
        round_, rank = np.divmod(np.arange(len(batch)), self.world_size)
        rank = np.where(round_ % 2, self.world_size - 1 - rank, rank)
        order = np.argsort(-tokens, kind="stable")[np.argsort(rank, kind="stable")]
        return order, tuple(np.bincount(rank, minlength=self.world_size).tolist())


class FromPosition(Sampler[int]):
    """Yields the batch indices from ``start`` on; its length is the whole epoch's.

    Lightning itself counts the batches that were consumed before a resume, and compares the sum
    with the loader's length.
    """

    def __init__(self, length: int, start: int) -> None:
        self.length, self.start = length, start

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.length))

    def __len__(self) -> int:
        return self.length


class EvalBatch(NamedTuple):
    """Texts to embed, packed.

    Attributes:
        input_ids: (T,) int64.
        lengths: (texts,) int64, tokens per text.
        texts: (texts,) int64, indices of the texts in the store.
    """

    input_ids: Tensor
    lengths: Tensor
    texts: Tensor


class TextBatches(Dataset[EvalBatch]):
    """Texts in batches of similar lengths, the longest first; rank r takes every W-th batch."""

    def __init__(
        self, tokens: TokenStore, texts: Ints, batch_size: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self.tokens = tokens
        self.texts = texts[np.argsort(-tokens.lengths(texts), kind="stable")]
        # Each rank needs a batch: Lightning refuses an empty loader, and DDP would wait for it.
        batch_size = max(1, min(batch_size, len(texts) // world_size))
        self.starts = range(rank * batch_size, len(texts), world_size * batch_size)
        self.batch_size = batch_size

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> EvalBatch:
        start = self.starts[index]
        texts = self.texts[start : start + self.batch_size]
        return EvalBatch(*self.tokens.pack(texts), from_numpy(texts))
