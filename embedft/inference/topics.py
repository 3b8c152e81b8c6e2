"""An order of rows in which neighbours are about like things.

Shape suffixes: R rows, M groups of rows, D embedding.
"""

from __future__ import annotations

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.nn import functional

from embedft.data.datamodule import EmbeddingDataModule
from embedft.encoder.encoder import Encoder
from embedft.inference.embed import Embeddings, embed_distinct
from embedft.table.keys import Ints

_BLOCK = 256
_LEAST = 1 / 64
"""A round that pairs a smaller share of what is left is the last: many are equal, and the rest is
paired as it comes."""


def topic_positions(vectors_RD: Tensor) -> Ints:
    """(R,) the place of each row in an order of topics, a permutation.

    The two rows that are most alike are paired, then the two of the rest, and so on; then pairs
    with pairs, by the sums of their vectors, until one group is left (each level is a greedy
    matching; Preis, 1999, "Linear time 1/2-approximation algorithm for maximum weighted matching").
    So the nearest rows are neighbours, and any stretch of the order is alike, the more so the
    shorter it is. Halving all rows again and again would part many that are nearest.

    Args:
        vectors_RD: float32 embeddings of one length, at least one; the search runs on their device.
    """
    levels, sums_MD = [], vectors_RD
    while len(sums_MD) > 1:
        pairs = _pairs(functional.normalize(sums_MD, dim=-1))
        first, second = torch.from_numpy(pairs).to(sums_MD.device).T
        both_MD = sums_MD[first]
        both_MD[second >= 0] += sums_MD[second[second >= 0]]
        levels.append(pairs)
        sums_MD = both_MD
    order = np.zeros(1, dtype=np.int64)
    for pairs in reversed(levels):
        order = pairs[order].ravel()
        order = order[order >= 0]
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    return places


def _pairs(unit_MD: Tensor) -> Ints:
    """(pairs, 2) greedily the most alike of what is left; -1 beside an odd one.

    Two that are each other's nearest are what the greedy choice would come to, so a round takes all
    of those at once.
    """
    free = np.arange(len(unit_MD))
    found = []
    while len(free) > 1:
        nearest = _nearest(unit_MD[torch.from_numpy(free).to(unit_MD.device)])
        place = np.arange(len(free))
        mutual = nearest[nearest] == place
        first = mutual & (place < nearest)
        found.append(np.stack([free[first], free[nearest[first]]], axis=1))
        free = free[~mutual]
        if mutual.mean() < _LEAST:
            break
    rest = np.append(free, np.full(len(free) % 2, -1)).reshape(-1, 2)
    return np.concatenate([*found, rest])


def _nearest(unit_MD: Tensor) -> Ints:
    """(M,) the nearest other one of each."""
    nearest = []
    for start in range(0, len(unit_MD), _BLOCK):
        alike_BM = unit_MD[start : start + _BLOCK] @ unit_MD.T
        own = torch.arange(len(alike_BM), device=alike_BM.device)
        alike_BM[own, start + own] = -torch.inf
        nearest.append(alike_BM.argmax(dim=1))
    return torch.cat(nearest).cpu().numpy()


def pair_topic_positions(
    encoder: Encoder, data: EmbeddingDataModule, trainer: Trainer, known: Embeddings | None
) -> Ints:
    """(rows,) the place of each training row in an order of topics.

    A row's topic is the mean of its anchor's and its positive's embedding: texts of one document
    are nearer by both than by either. The first rank computes, the others take its word. It embeds
    the texts unless their embeddings are known.
    """
    places = None
    if trainer.is_global_zero:
        anchor, positive = data.pairs.anchor, data.pairs.positive
        embedded = known or embed_distinct(
            encoder,
            data.tokens,
            np.concatenate([anchor, positive]),
            data.eval_batch_size,
            trainer,
            "embedding for topics",
        )
        device = trainer.strategy.root_device
        anchor_RD, positive_RD = (
            functional.normalize(torch.from_numpy(embedded.lookup(texts)).to(device), dim=-1)
            for texts in (anchor, positive)
        )
        places = topic_positions(functional.normalize(anchor_RD + positive_RD, dim=-1))
    return np.asarray(trainer.strategy.broadcast(places))
