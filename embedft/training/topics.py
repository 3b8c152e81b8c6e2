"""What the training questions are about, by the base model."""

from __future__ import annotations

import numpy as np
import torch
from lightning.pytorch import Trainer
from numpy.typing import NDArray
from torch.nn import functional

from embedft.data.batches import TextBatches
from embedft.data.datamodule import EmbeddingDataModule
from embedft.data.keys import Ints
from embedft.data.topics import topic_places
from embedft.embedding import embed_texts
from embedft.encoder.encoder import Encoder


def question_places(encoder: Encoder, data: EmbeddingDataModule, trainer: Trainer) -> Ints:
    """(rows,) the place of each training row in an order of its question's topics.

    The first rank computes, the others take its word.
    """
    places = None
    if trainer.is_global_zero:
        places = topic_places(_embeddings(encoder, data, trainer), data.seed)
    return np.asarray(trainer.strategy.broadcast(places))


def _embeddings(
    encoder: Encoder, data: EmbeddingDataModule, trainer: Trainer
) -> NDArray[np.float32]:
    """(rows, D) of the questions, length 1."""
    questions, row_of = np.unique(data.rows.anchor, return_inverse=True)
    table = np.empty((len(questions), encoder.embedding_dim), dtype=np.float32)

    def put(texts: Ints, embeddings: NDArray[np.float32]) -> None:
        unit = functional.normalize(torch.from_numpy(embeddings), dim=-1)
        table[np.searchsorted(questions, texts)] = unit.numpy()

    batches = TextBatches(data.tokens, questions, data.eval_batch_size)
    embed_texts(encoder, batches, trainer, put, "embedding for topics")
    return table[row_of]
