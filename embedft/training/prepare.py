"""Work before the first step: hard negatives are mined."""

from __future__ import annotations

import logging

from lightning.pytorch import Trainer

from embedft.data.datamodule import EmbeddingDataModule
from embedft.encoder.encoder import Encoder
from embedft.inference.embed import Embeddings
from embedft.inference.hard_negatives import mine_negatives

log = logging.getLogger(__name__)


def prepare_batches(
    encoder: Encoder, data: EmbeddingDataModule, trainer: Trainer
) -> Embeddings | None:
    """Mines hard negatives with the base model, if the run mines; logs which pairs are left out.

    A resumed run brings its negatives in its checkpoint.

    Returns:
        The base model's embeddings of all texts, if they were computed on this rank.
    """
    known = None
    if data.training.mines and data.training.mined is None:
        known = mine_negatives(encoder, data, trainer)
    if left_out := len(data.pairs) - len(data.train_batches(0).plan.pairs):
        log.info(
            "%d of %d pairs are left out of this epoch (rotating), because their question or "
            "answer occurs in more rows than there are batches",
            left_out,
            len(data.pairs),
        )
    return known
