"""What the training rows are about, by the base model."""

from __future__ import annotations

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch.nn import functional

from embedft.data.datamodule import EmbeddingDataModule
from embedft.data.keys import Ints
from embedft.data.topics import topic_places
from embedft.embedding import Embeddings, embed_once
from embedft.encoder.encoder import Encoder


def row_places(
    encoder: Encoder, data: EmbeddingDataModule, trainer: Trainer, known: Embeddings | None
) -> Ints:
    """(rows,) the place of each training row in an order of topics.

    A row's topic is the mean of its anchor's and its positive's embedding: texts of one document
    are nearer by both than by either. The first rank computes, the others take its word. It embeds
    the texts unless their embeddings are known.
    """
    places = None
    if trainer.is_global_zero:
        anchor, positive = data.rows.anchor, data.rows.positive
        embedded = known or embed_once(
            encoder,
            data.tokens,
            np.concatenate([anchor, positive]),
            data.eval_batch_size,
            trainer,
            "embedding for topics",
        )
        device = trainer.strategy.root_device
        anchor_RD, positive_RD = (
            functional.normalize(torch.from_numpy(embedded.of(texts)).to(device), dim=-1)
            for texts in (anchor, positive)
        )
        places = topic_places(functional.normalize(anchor_RD + positive_RD, dim=-1))
    return np.asarray(trainer.strategy.broadcast(places))
