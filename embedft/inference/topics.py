"""An order of training pairs by topic, in which neighbours are similar.

Shape suffixes: R rows, M groups of rows, G pairs of groups, Q groups of a block, D embedding.
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
"""Groups per block of the search for nearest groups."""

_LEAST_MATCHED = 1 / 64
"""Matching ends after a round that matches a smaller share of the groups left: many are then equal,
and the rest is matched in its order."""


def pair_topic_positions(
    encoder: Encoder, data: EmbeddingDataModule, trainer: Trainer, known: Embeddings | None
) -> Ints:
    """(R,) the position of each training pair in an order by topic.

    The topic of a pair is the mean of its anchor's and its positive's embedding: texts of one
    document are closer by this mean than by either embedding. Only the first rank computes; it
    sends the result to the others.

    Args:
        encoder: The base model.
        data: Has loaded its data.
        trainer: Gives device and precision.
        known: Embeddings of all texts; None embeds them.
    """
    position_R = None
    if trainer.is_global_zero:
        anchor_R, positive_R = data.pairs.anchor, data.pairs.positive
        embeddings = known or embed_distinct(
            encoder,
            data.tokens,
            np.concatenate([anchor_R, positive_R]),
            data.eval_batch_size,
            trainer,
            "embedding for topics",
        )
        device = trainer.strategy.root_device
        anchor_RD, positive_RD = (
            functional.normalize(torch.from_numpy(embeddings.lookup(texts)).to(device), dim=-1)
            for texts in (anchor_R, positive_R)
        )
        position_R = topic_positions(functional.normalize(anchor_RD + positive_RD, dim=-1))
    return np.asarray(trainer.strategy.broadcast(position_R))


def topic_positions(vectors_RD: Tensor) -> Ints:
    """(R,) the position of each row in an order by topic, a permutation.

    Rows are matched into pairs, most similar first; then pairs are matched with pairs by the sums
    of their vectors, and so on until one group is left. Each level is a greedy matching (Preis,
    1999, "Linear time 1/2-approximation algorithm for maximum weighted matching"). So the most
    similar rows are neighbours, and each section of the order is the more similar the shorter it
    is. Splitting all rows in halves recursively would separate many nearest neighbours.

    Args:
        vectors_RD: float32 embeddings of unit length, at least one; the search runs on their
            device.
    """
    levels, sums_MD = [], vectors_RD
    while len(sums_MD) > 1:
        matched_G2 = _greedy_matching(functional.normalize(sums_MD, dim=-1))
        first_G, second_G = torch.from_numpy(matched_G2).to(sums_MD.device).T
        sums_GD = sums_MD[first_G]
        sums_GD[second_G >= 0] += sums_MD[second_G[second_G >= 0]]
        levels.append(matched_G2)
        sums_MD = sums_GD
    order = np.zeros(1, dtype=np.int64)
    for matched_G2 in reversed(levels):
        order = matched_G2[order].ravel()
        order = order[order >= 0]
    position_R = np.empty_like(order)
    position_R[order] = np.arange(len(order))
    return position_R


def _greedy_matching(unit_MD: Tensor) -> Ints:
    """(G, 2) pairs of groups, greedily the most similar of those left; -1 beside an odd one.

    Two groups that are each other's nearest would be matched by the greedy choice in any case, so
    each round matches all of them at once.
    """
    left = np.arange(len(unit_MD))
    matched = []
    while len(left) > 1:
        nearest = _nearest(unit_MD[torch.from_numpy(left).to(unit_MD.device)])
        index = np.arange(len(left))
        is_mutual = nearest[nearest] == index
        is_first = is_mutual & (index < nearest)
        matched.append(np.stack([left[is_first], left[nearest[is_first]]], axis=1))
        left = left[~is_mutual]
        if is_mutual.mean() < _LEAST_MATCHED:
            break
    rest = np.append(left, np.full(len(left) % 2, -1)).reshape(-1, 2)
    return np.concatenate([*matched, rest])


def _nearest(unit_MD: Tensor) -> Ints:
    """(M,) the index of the most similar other group."""
    nearest = []
    for start in range(0, len(unit_MD), _BLOCK):
        similarity_QM = unit_MD[start : start + _BLOCK] @ unit_MD.T
        row_Q = torch.arange(len(similarity_QM), device=similarity_QM.device)
        similarity_QM[row_Q, start + row_Q] = -torch.inf
        nearest.append(similarity_QM.argmax(dim=1))
    return torch.cat(nearest).cpu().numpy()
