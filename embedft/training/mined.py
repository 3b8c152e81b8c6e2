"""Hard negatives where a file names none: the base model mines them before it is trained."""

from __future__ import annotations

import logging

import numpy as np
import torch
from lightning.pytorch import Trainer

from embedft.data.datamodule import EmbeddingDataModule
from embedft.data.keys import Ints, connected
from embedft.data.negatives import MINED
from embedft.data.pairs import RIGHT
from embedft.data.train_rows import TrainRows
from embedft.embedding import Embeddings, embed_once
from embedft.encoder.encoder import Encoder
from embedft.evaluation.hard_negatives import RELATIVE_MARGIN, hard_negative_rows

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
        rows = data.rows
        texts = np.concatenate([rows.anchor, rows.positive, data.task.texts])
        embedded = embed_once(
            encoder, data.tokens, texts, data.eval_batch_size, trainer, "embedding for mining"
        )
        found_RN = _search(rows, embedded, trainer.strategy.root_device)
        log.info(
            "mine_negatives: %d hard negatives for %d of %d training pairs",
            np.count_nonzero(found_RN >= 0),
            np.count_nonzero((found_RN >= 0).any(axis=1)),
            len(found_RN),
        )
    data.take_mined(np.asarray(trainer.strategy.broadcast(found_RN)))
    return embedded


def _search(rows: TrainRows, embedded: Embeddings, device: torch.device) -> Ints:
    """(rows, N) rows whose positives are hard negatives of each row, -1 for none."""
    found_RN, _ = hard_negative_rows(
        np.arange(len(rows)),
        torch.from_numpy(embedded.of(rows.anchor)).to(device),
        lambda some: torch.from_numpy(embedded.of(rows.positive[some])).to(device),
        rows.positive_key,
        connected(rows.anchor_key, rows.positive_key, rows.file),
        count=MINED,
        relative_margin=RELATIVE_MARGIN,
    )
    if rows.labels is not None:
        found_RN[rows.labels < RIGHT] = -1
    return found_RN
