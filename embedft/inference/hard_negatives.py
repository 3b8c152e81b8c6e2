"""Mining hard negatives: an exact search for the most similar answers that are not relevant.

Shape suffixes: R rows, A rows that get negatives, Q rows of a block, C documents, D embedding,
N negatives per row.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import torch
from lightning.pytorch import Trainer
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from embedft.data.datamodule import EmbeddingDataModule
from embedft.data.pairs import RELEVANT, Pairs
from embedft.encoder.encoder import Encoder
from embedft.inference.embed import Embeddings, embed_distinct
from embedft.table.keys import Hashes, Ints, connected, first_equal
from embedft.table.negatives import N_MINED
from embedft.tools.progress import progress

log = logging.getLogger(__name__)

BLOCK = 256
"""Rows per block of the search."""

RELATIVE_MARGIN = 0.05
"""The default margin, as in sentence-transformers."""


def mine_negatives(
    encoder: Encoder, data: EmbeddingDataModule, trainer: Trainer
) -> Embeddings | None:
    """Mines hard negatives among the training pairs and hands them to the data.

    ``python -m embedft mine`` finds the same negatives. Only the first rank computes; it sends the
    result to the others.

    Args:
        encoder: The base model.
        data: Has loaded its data; gets the negatives.
        trainer: Gives device and precision.

    Returns:
        The base model's embeddings of all texts, those of the evaluation included, so that they
        need not be embedded again. None on other ranks.
    """
    embeddings = negatives_RN = None
    if trainer.is_global_zero:
        pairs = data.pairs
        texts = np.concatenate([pairs.anchor, pairs.positive, data.task.texts])
        embeddings = embed_distinct(
            encoder, data.tokens, texts, data.eval_batch_size, trainer, "embedding for mining"
        )
        negatives_RN = _mine_pairs(pairs, embeddings, trainer.strategy.root_device)
        log.info(
            "mine_negatives: %d hard negatives for %d of %d training pairs",
            np.count_nonzero(negatives_RN >= 0),
            np.count_nonzero((negatives_RN >= 0).any(axis=1)),
            len(negatives_RN),
        )
    data.training.take_mined(np.asarray(trainer.strategy.broadcast(negatives_RN)))
    return embeddings


def _mine_pairs(pairs: Pairs, embeddings: Embeddings, device: torch.device) -> Ints:
    """(R, N) for each pair the pairs whose positives are its hard negatives, -1 for none."""
    negatives_RN, _ = find_pair_negatives(
        np.arange(len(pairs)),
        torch.from_numpy(embeddings.lookup(pairs.anchor)).to(device),
        lambda rows: torch.from_numpy(embeddings.lookup(pairs.positive[rows])).to(device),
        pairs.positive_id,
        connected(pairs.anchor_id, pairs.positive_id, pairs.file_id),
        count=N_MINED,
        relative_margin=RELATIVE_MARGIN,
    )
    if pairs.labels is not None:
        negatives_RN[pairs.labels < RELEVANT] = -1
    return negatives_RN


def find_pair_negatives(
    rows_A: Ints,
    anchors_AD: Tensor,
    embed_positives: Callable[[Ints], Tensor],
    positive_key_R: Ints | Hashes,
    group_R: Ints,
    *,
    count: int,
    relative_margin: float,
) -> tuple[Ints, NDArray[np.float32]]:
    """:func:`find_hard_negatives` among the distinct positives of a set of pairs.

    Args:
        rows_A: The rows that get negatives.
        anchors_AD: Embeddings of their anchors, not necessarily of unit length.
        embed_positives: Returns the embeddings of the positives of given rows, (rows, D), on the
            device of ``anchors_AD``.
        positive_key_R: Equal for rows with the same positive; the first row represents it.
        group_R: Group of each row; rows that share a text or a file have the same group.
        count: N.
        relative_margin: As for :func:`find_hard_negatives`.

    Returns:
        (A, N) the rows that have the negatives as positives, most similar first, -1 for none; and
        (A, N) float32 cosine similarities, NaN for none.
    """
    first_R = first_equal(positive_key_R)
    document_rows_C = np.flatnonzero(first_R == np.arange(len(first_R)))
    negatives_AN, scores_AN = find_hard_negatives(
        anchors_AD,
        embed_positives(document_rows_C),
        np.searchsorted(document_rows_C, first_R[rows_A]),
        group_R[rows_A],
        group_R[document_rows_C],
        count=count,
        relative_margin=relative_margin,
    )
    return np.where(negatives_AN >= 0, document_rows_C[negatives_AN], -1), scores_AN


def find_hard_negatives(
    anchors_RD: Tensor,
    documents_CD: Tensor,
    positive_R: NDArray[np.int64],
    anchor_group_R: NDArray[np.int64],
    document_group_C: NDArray[np.int64],
    *,
    count: int,
    relative_margin: float,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The most similar documents of each row that are neither relevant nor likely to be.

    Documents of the row's own group are excluded, and those above the limit of
    :func:`_similarity_limits`.

    Args:
        anchors_RD: Embeddings, not necessarily of unit length; the search runs on their device.
        documents_CD: Embeddings, not necessarily of unit length, on the same device.
        positive_R: The relevant document of each row.
        anchor_group_R: Group of each row; rows that share a text or a file have the same group.
        document_group_C: Group of each document.
        count: N.
        relative_margin: From 0 (as similar as the positive) to 1.

    Returns:
        (R, N) the documents, most similar first, -1 for none; and (R, N) float32 cosine
        similarities, NaN for none. N is at most C.
    """
    anchors_RD = functional.normalize(anchors_RD.float(), dim=-1)
    documents_CD = functional.normalize(documents_CD.float(), dim=-1)
    limits_R = _similarity_limits(anchors_RD, documents_CD, positive_R, relative_margin)
    # Sorted by group, the documents of a row's own group are one slice of its scores.
    order_C = np.argsort(document_group_C, kind="stable")
    sorted_group_C = document_group_C[order_C]
    group_starts_R = np.searchsorted(sorted_group_C, anchor_group_R, "left")
    group_ends_R = np.searchsorted(sorted_group_C, anchor_group_R, "right")
    sorted_documents_DC = documents_CD[torch.from_numpy(order_C).to(documents_CD.device)].T
    rows, count = len(anchors_RD), min(count, len(order_C))
    negatives_RN = np.full((rows, count), -1)
    scores_RN = np.full((rows, count), np.nan, dtype=np.float32)
    for block_start in progress(range(0, rows, BLOCK), desc="mining", unit=f"x{BLOCK} rows"):
        block = slice(block_start, block_start + BLOCK)
        scores_QC = anchors_RD[block] @ sorted_documents_DC
        for scores_C, start, end in zip(
            scores_QC, group_starts_R[block], group_ends_R[block], strict=True
        ):
            scores_C[start:end] = -torch.inf
        scores_QC.masked_fill_(scores_QC > limits_R[block].unsqueeze(1), -torch.inf)
        top = scores_QC.topk(count, dim=1)
        scores_QN, index_QN = top.values.cpu().numpy(), top.indices.cpu().numpy()
        found_QN = np.isfinite(scores_QN)
        negatives_RN[block][found_QN] = order_C[index_QN[found_QN]]
        scores_RN[block][found_QN] = scores_QN[found_QN]
    return negatives_RN, scores_RN


def _similarity_limits(
    anchors_RD: Tensor,
    documents_CD: Tensor,
    positive_R: NDArray[np.int64],
    relative_margin: float,
) -> Tensor:
    """(R,) the similarity to each anchor above which a document may be relevant too.

    It is ``1 - relative_margin`` times the similarity of the positive, or as much below it if that
    is negative: "positive-aware" mining (Moreira et al., 2024, arXiv:2407.15831;
    sentence-transformers' ``mine_hard_negatives`` has the same ``relative_margin``).

    Args:
        anchors_RD: Embeddings of unit length.
        documents_CD: Embeddings of unit length, on the same device.
        positive_R: The relevant document of each row.
        relative_margin: From 0 to 1.
    """
    positives_RD = documents_CD[torch.from_numpy(positive_R).to(documents_CD.device)]
    limits_R = (anchors_RD * positives_RD).sum(-1)
    return limits_R - relative_margin * limits_R.abs()
