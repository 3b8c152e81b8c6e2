"""Mining hard negatives: an exact search for the most similar answers that are not relevant.

Shape suffixes: R rows, A rows that get negatives, Q rows of a block, C documents, D embedding,
N negatives per row.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

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
from embedft.table.keys import Hashes, Ints, first_equal
from embedft.table.negatives import N_MINED
from embedft.tools.progress import progress

log = logging.getLogger(__name__)

BLOCK = 256
"""Rows per block of the search."""

RELATIVE_MARGIN = 0.05
"""The default margin, as in sentence-transformers."""

FEW = 0.1
"""Share of the pairs with a negative below which mining warns."""


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
        n_with = int(np.count_nonzero((negatives_RN >= 0).any(axis=1)))
        log.info(
            "mine_negatives: %d hard negatives for %d of %d training pairs",
            np.count_nonzero(negatives_RN >= 0),
            n_with,
            len(negatives_RN),
        )
        if problem := few_negatives_problem(n_with, len(negatives_RN)):
            log.warning("mine_negatives: %s", problem)
    data.training.take_mined(np.asarray(trainer.strategy.broadcast(negatives_RN)))
    return embeddings


def _mine_pairs(pairs: Pairs, embeddings: Embeddings, device: torch.device) -> Ints:
    """(R, N) for each pair the pairs whose positives are its hard negatives, -1 for none."""
    negatives_RN, _ = find_pair_negatives(
        np.arange(len(pairs)),
        torch.from_numpy(embeddings.lookup(pairs.anchor)).to(device),
        lambda rows: torch.from_numpy(embeddings.lookup(pairs.positive[rows])).to(device),
        pairs.positive_id,
        (pairs.anchor_id, pairs.file_id),
        count=N_MINED,
        relative_margin=RELATIVE_MARGIN,
    )
    if pairs.labels is not None:
        negatives_RN[pairs.labels < RELEVANT] = -1
    return negatives_RN


def few_negatives_problem(n_with: int, n_rows: int) -> str:
    """Says that hardly any row gets a negative, and why that may be; empty if enough do."""
    if n_with >= FEW * n_rows:
        return ""
    return (
        f"only {n_with} of {n_rows} rows get a hard negative: all other answers are of the row's "
        "file or question, or more similar to the question than its own answer. Check that each "
        "answer fits its question and that file_name differs between documents"
    )


def find_pair_negatives(
    rows_A: Ints,
    anchors_AD: Tensor,
    embed_positives: Callable[[Ints], Tensor],
    positive_key_R: Ints | Hashes,
    keys: Sequence[Ints],
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
        keys: (R,) each, such as ids of the anchors and of the files. The positives of all rows with
            the key of a row are no negatives of it; a negative key ties nothing.
        count: N.
        relative_margin: As for :func:`find_hard_negatives`.

    Returns:
        (A, N) the rows that have the negatives as positives, most similar first, -1 for none; and
        (A, N) float32 cosine similarities, NaN for none.
    """
    first_R = first_equal(positive_key_R)
    document_rows_C = np.flatnonzero(first_R == np.arange(len(first_R)))
    document_R = np.searchsorted(document_rows_C, first_R)
    negatives_AN, scores_AN = find_hard_negatives(
        anchors_AD,
        embed_positives(document_rows_C),
        document_R[rows_A],
        [Tied.of(key_R[rows_A], key_R, document_R) for key_R in keys],
        count=count,
        relative_margin=relative_margin,
    )
    return np.where(negatives_AN >= 0, document_rows_C[negatives_AN], -1), scores_AN


class Tied(NamedTuple):
    """Documents that are tied to rows by an equal key.

    Attributes:
        row_key: (R,) key of each row; a negative one ties nothing.
        key: (ties,) keys of documents, ascending. A document may have several.
        document: (ties,) the document of each.
    """

    row_key: Ints
    key: Ints
    document: Ints

    @classmethod
    def of(cls, row_key: Ints, key: Ints, document: Ints) -> Tied:
        """Ties to documents whose (ties,) keys are in any order."""
        order = np.argsort(key, kind="stable")
        return cls(row_key, key[order], document[order])

    def of_rows(self, rows: slice) -> tuple[Ints, Ints]:
        """(found,) the row, counted from the first one of the slice, and the document."""
        wanted = self.row_key[rows]
        first = np.searchsorted(self.key, wanted, "left")
        counts = np.where(wanted < 0, 0, np.searchsorted(self.key, wanted, "right") - first)
        row = np.repeat(np.arange(len(wanted)), counts)
        shift = np.repeat(first - (np.cumsum(counts) - counts), counts)
        return row, self.document[shift + np.arange(len(row))]


def find_hard_negatives(
    anchors_RD: Tensor,
    documents_CD: Tensor,
    positive_R: NDArray[np.int64],
    tied: Sequence[Tied],
    *,
    count: int,
    relative_margin: float,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The most similar documents of each row that are neither relevant nor likely to be.

    The row's own document is excluded, those that are tied to the row, and those above the limit of
    :func:`_similarity_limits`.

    Args:
        anchors_RD: Embeddings, not necessarily of unit length; the search runs on their device.
        documents_CD: Embeddings, not necessarily of unit length, on the same device.
        positive_R: The relevant document of each row.
        tied: Documents that are no negatives of a row.
        count: N.
        relative_margin: From 0 (as similar as the positive) to 1.

    Returns:
        (R, N) the documents, most similar first, -1 for none; and (R, N) float32 cosine
        similarities, NaN for none. N is at most C.
    """
    anchors_RD = functional.normalize(anchors_RD.float(), dim=-1)
    documents_CD = functional.normalize(documents_CD.float(), dim=-1)
    limits_R = _similarity_limits(anchors_RD, documents_CD, positive_R, relative_margin)
    device = documents_CD.device
    rows, count = len(anchors_RD), min(count, len(documents_CD))
    negatives_RN = np.full((rows, count), -1)
    scores_RN = np.full((rows, count), np.nan, dtype=np.float32)
    for block_start in progress(range(0, rows, BLOCK), desc="mining", unit=f"x{BLOCK} rows"):
        block = slice(block_start, block_start + BLOCK)
        scores_QC = anchors_RD[block] @ documents_CD.T
        scores_QC[torch.arange(len(scores_QC)), torch.from_numpy(positive_R[block])] = -torch.inf
        for ties in tied:
            row, document = (torch.from_numpy(index).to(device) for index in ties.of_rows(block))
            scores_QC[row, document] = -torch.inf
        scores_QC.masked_fill_(scores_QC > limits_R[block].unsqueeze(1), -torch.inf)
        top = scores_QC.topk(count, dim=1)
        scores_QN, index_QN = top.values.cpu().numpy(), top.indices.cpu().numpy()
        found_QN = np.isfinite(scores_QN)
        negatives_RN[block][found_QN] = index_QN[found_QN]
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
