"""Which wrong answers a model takes for right ones: exact search in blocks.

Shape suffixes: R rows, A rows that look for negatives, Q rows of a block, C documents, D embedding,
N negatives a row.
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

BLOCK = 256

RELATIVE_MARGIN = 0.05
"""The margin that is taken if none is given, as by sentence-transformers."""


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
    """The most similar documents of each row that are neither right nor likely to be.

    A document of the row's own group is never taken, nor one whose similarity to the anchor is
    above ``1 - relative_margin`` times that of the positive: it may be right as well (Moreira et
    al., 2024, arXiv:2407.15831, "positive-aware" mining; sentence-transformers'
    ``mine_hard_negatives`` calls it so too).

    Args:
        anchors_RD: Embeddings, any length; the search runs on their device.
        documents_CD: Embeddings, any length, on the same device.
        positive_R: The document that is each row's right answer.
        anchor_group_R: Group of each row: what shares a text or a file has one group.
        document_group_C: Group of each document.
        count: N.
        relative_margin: From 0 (as similar as the positive) to 1.

    Returns:
        (R, N) the documents, the most similar first, -1 where there are no more; and their cosine
        similarities, (R, N) float32, NaN there.
    """
    order_C = np.argsort(document_group_C, kind="stable")
    in_order_C = document_group_C[order_C]
    starts_R = np.searchsorted(in_order_C, anchor_group_R, "left")
    ends_R = np.searchsorted(in_order_C, anchor_group_R, "right")
    anchors_RD = functional.normalize(anchors_RD.float(), dim=-1)
    documents_CD = functional.normalize(documents_CD.float(), dim=-1)
    device = anchors_RD.device
    limit_R = (anchors_RD * documents_CD[torch.from_numpy(positive_R).to(device)]).sum(-1)
    limit_R -= relative_margin * limit_R.abs()
    documents_DC = documents_CD[torch.from_numpy(order_C).to(device)].T
    rows, count = len(anchors_RD), min(count, len(order_C))
    found_RN = np.full((rows, count), -1)
    scores_RN = np.full((rows, count), np.nan, dtype=np.float32)
    for start in progress(range(0, rows, BLOCK), desc="mining", unit=f"x{BLOCK} rows"):
        block = slice(start, start + BLOCK)
        scores_QC = anchors_RD[block] @ documents_DC
        for scores_C, first, end in zip(scores_QC, starts_R[block], ends_R[block], strict=True):
            scores_C[first:end] = -torch.inf
        scores_QC.masked_fill_(scores_QC > limit_R[block].unsqueeze(1), -torch.inf)
        top = scores_QC.topk(count, dim=1)
        values, places = top.values.cpu().numpy(), top.indices.cpu().numpy()
        some = np.isfinite(values)
        found_RN[block][some] = order_C[places[some]]
        scores_RN[block][some] = values[some]
    return found_RN, scores_RN


def find_pair_negatives(
    rows_A: Ints,
    anchors_AD: Tensor,
    positives_of: Callable[[Ints], Tensor],
    positive_key_R: Ints | Hashes,
    group_R: Ints,
    *,
    count: int,
    relative_margin: float,
) -> tuple[Ints, NDArray[np.float32]]:
    """:func:`find_hard_negatives` among the distinct positives of all rows of a set.

    Args:
        rows_A: The rows that look for some.
        anchors_AD: Embeddings of their anchors, any length.
        positives_of: Gives the embeddings of some rows' positives, (rows, D), on the same device.
        positive_key_R: Equal where two rows have the same positive; the first stands for all.
        group_R: Group of each row: what shares a text or a file has one group.
        count: N.
        relative_margin: As for :func:`find_hard_negatives`.

    Returns:
        (A, N) rows of whose positives they are, the most similar first, -1 where there are no more;
        and their cosine similarities, (A, N) float32, NaN there.
    """
    first_R = first_equal(positive_key_R)
    documents = np.flatnonzero(first_R == np.arange(len(first_R)))
    found_AN, scores_AN = find_hard_negatives(
        anchors_AD,
        positives_of(documents),
        np.searchsorted(documents, first_R[rows_A]),
        group_R[rows_A],
        group_R[documents],
        count=count,
        relative_margin=relative_margin,
    )
    return np.where(found_AN >= 0, documents[found_AN], -1), scores_AN


log = logging.getLogger(__name__)


def mine_negatives(
    encoder: Encoder, data: EmbeddingDataModule, trainer: Trainer
) -> Embeddings | None:
    """Gives the data hard negatives, as ``python -m embedft mine`` finds them among training pairs.

    The first rank computes, the others take its word.

    Returns:
        The base model's embeddings of all texts, those that are measured included: they need not be
        embedded again. None on other ranks.
    """
    embedded = found_RN = None
    if trainer.is_global_zero:
        rows = data.pairs
        texts = np.concatenate([rows.anchor, rows.positive, data.task.texts])
        embedded = embed_distinct(
            encoder, data.tokens, texts, data.eval_batch_size, trainer, "embedding for mining"
        )
        found_RN = _search(rows, embedded, trainer.strategy.root_device)
        log.info(
            "mine_negatives: %d hard negatives for %d of %d training pairs",
            np.count_nonzero(found_RN >= 0),
            np.count_nonzero((found_RN >= 0).any(axis=1)),
            len(found_RN),
        )
    data.training.take_mined(np.asarray(trainer.strategy.broadcast(found_RN)))
    return embedded


def _search(rows: Pairs, embedded: Embeddings, device: torch.device) -> Ints:
    """(rows, N) rows whose positives are hard negatives of each row, -1 for none."""
    found_RN, _ = find_pair_negatives(
        np.arange(len(rows)),
        torch.from_numpy(embedded.lookup(rows.anchor)).to(device),
        lambda some: torch.from_numpy(embedded.lookup(rows.positive[some])).to(device),
        rows.positive_id,
        connected(rows.anchor_id, rows.positive_id, rows.file_id),
        count=N_MINED,
        relative_margin=RELATIVE_MARGIN,
    )
    if rows.labels is not None:
        found_RN[rows.labels < RELEVANT] = -1
    return found_RN
