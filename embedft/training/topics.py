"""What the training questions are about, by the base model."""

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


def question_places(
    encoder: Encoder, data: EmbeddingDataModule, trainer: Trainer, known: Embeddings | None
) -> Ints:
    """(rows,) the place of each training row in an order of its question's topics.

    The first rank computes, the others take its word. It embeds the questions unless their
    embeddings are known.
    """
    places = None
    if trainer.is_global_zero:
        anchor = data.rows.anchor
        embedded = known or embed_once(
            encoder, data.tokens, anchor, data.eval_batch_size, trainer, "embedding for topics"
        )
        unit_RD = functional.normalize(torch.from_numpy(embedded.of(anchor)), dim=-1)
        places = topic_places(unit_RD.numpy(), data.seed)
    return np.asarray(trainer.strategy.broadcast(places))
