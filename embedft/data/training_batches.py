"""The training batches of each epoch, and everything that decides them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from embedft.data.batches import EpochBatches
from embedft.data.load import FitData
from embedft.data.pairs import Pairs
from embedft.data.plan import MAX_LEFT_OUT, BatchPlan, plan_epoch
from embedft.data.ties import SharedText
from embedft.errors import InputError
from embedft.table.keys import Ints
from embedft.table.negatives import N_MINED, Negatives

log = logging.getLogger(__name__)


class BatchSettings(Protocol):
    """The settings of a datamodule that decide its training batches."""

    mine_negatives: bool
    hard_negatives: int
    negatives_per_pair: int
    seed: int


class TrainingBatches:
    """The training pairs, their hard negatives, and the batches that they make.

    Args:
        data: What was loaded.
        settings: What the user asked for about batches.

    Attributes:
        pairs: The training pairs, with hard negatives of the file or mined ones.
        mines: Whether a fit mines hard negatives before the first step.
        pairwise_negatives: Whether a negative is compared only with its own anchor, instead of all
            anchors of the batch.
        n_drawn_negatives: Negatives of a pair in a step that are drawn from other pairs.
        mined: (pairs, N) pairs whose positives are hard negatives of each, -1 for none; None until
            mined.
    """

    def __init__(self, data: FitData, settings: BatchSettings) -> None:
        self.pairs, self.tokens, self.seed = data.pairs, data.tokens, settings.seed
        self._planned_anchor_id, self._shared_positives = _shared(data.pairs, data.shared)
        self.pairwise_negatives = data.needs_labels
        draws = data.needs_labels and data.pairs.labels is None
        self.n_drawn_negatives = settings.negatives_per_pair if draws else 0
        self.mined: Ints | None = None
        named = data.pairs.negatives
        self._most_named = 0 if named is None else int(named.counts.max())
        self._hard_negatives = settings.hard_negatives
        self._plan: tuple[tuple[int, int], BatchPlan] | None = None
        n_named = 0 if named is None else int(np.count_nonzero(named.counts))
        self.mines = settings.mine_negatives and settings.hard_negatives > 0 and not n_named
        if settings.mine_negatives and n_named:
            log.log(
                logging.WARNING if n_named < len(data.pairs) / 2 else logging.INFO,
                "mine_negatives: none are mined, as the file names negatives for %d of %d training "
                "pairs",
                n_named,
                len(data.pairs),
            )

    @property
    def n_hard_negatives(self) -> int:
        """Hard negatives of a pair in a step."""
        most = N_MINED if self.mines else self._most_named
        return min(self._hard_negatives, most)

    def take_mined(self, mined: Ints) -> None:
        """Makes hard negatives of :attr:`mined`."""
        self.mined = mined
        if (mined >= 0).any():
            pairs = self.pairs
            negatives = Negatives.of_pairs(mined, pairs.positive, pairs.positive_id)
            self.pairs = replace(pairs, negatives=negatives)

    def resume(self, mined: Ints | None) -> None:
        """Takes over what the run before a resume had mined, if this run needs it.

        Raises:
            InputError: It names pairs that do not exist.
        """
        if self.mines and mined is not None and len(mined) == len(self.pairs):
            if not -1 <= mined.min(initial=0) <= mined.max(initial=0) < len(self.pairs):
                raise InputError(
                    "cannot resume: the checkpoint names training pairs that do not exist"
                )
            self.take_mined(mined)

    def of_epoch(self, epoch: int, batch_size: int, rank: int, world_size: int) -> EpochBatches:
        """One rank's batches of an epoch; ``batch_size`` is that of one rank."""
        if self._plan is None or self._plan[0] != (epoch, world_size):
            plan = plan_epoch(
                self._planned_anchor_id,
                self.pairs.positive_id,
                batch_size=batch_size * world_size,
                seed=self.seed,
                epoch=epoch,
                max_left_out=self._max_left_out(batch_size * world_size),
            )
            self._plan = (epoch, world_size), plan
        return EpochBatches(
            self.pairs,
            self._plan[1],
            self.tokens,
            seed=self.seed,
            epoch=epoch,
            rank=rank,
            world_size=world_size,
            negatives_per_pair=self.n_drawn_negatives,
            hard_negatives=0 if self.pairs.negatives is None else self.n_hard_negatives,
            pairwise_negatives=self.pairwise_negatives,
        )

    def _max_left_out(self, size: int) -> float:
        """The share of the pairs that an epoch may leave out.

        With in-batch negatives, a small batch costs more than a pair that is left out. Of an answer
        that many files share, an epoch takes no more pairs than there are full batches.
        """
        if self.pairwise_negatives:
            return 0.0
        n_pairs = len(self.pairs)
        excess = np.maximum(self._shared_positives - -(-n_pairs // size), 0).sum()
        return MAX_LEFT_OUT + float(excess) / n_pairs


def _shared(pairs: Pairs, shared: Sequence[SharedText]) -> tuple[Ints, Ints]:
    """Ids of the anchors for the plan of batches, and the pairs of each shared positive.

    Pairs of a question that many files are asked may share a batch, so each counts as a question of
    its own: there are too many to keep them apart. :class:`Candidates` knows that they are no
    negatives of each other.
    """
    anchor_id = pairs.anchor_id
    hashes = [text.hashes for text in shared if text.kind == "question"]
    if hashes:
        is_shared = np.isin(pairs.anchor_hash, hashes[0])
        new = anchor_id.max() + 1 + np.arange(len(pairs))
        anchor_id = np.where(is_shared, new, anchor_id)
    hashes = [text.hashes for text in shared if text.kind != "question"]
    is_shared = np.isin(pairs.positive_hash, np.concatenate([*hashes, np.empty(0, np.uint64)]))
    return anchor_id, np.unique(pairs.positive_id[is_shared], return_counts=True)[1]
