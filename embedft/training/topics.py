"""What the training questions are about, by the base model."""

from __future__ import annotations

import numpy as np
import torch
from lightning.pytorch import Trainer
from numpy.typing import NDArray

from embedft.data.batches import TextBatches
from embedft.data.datamodule import EmbeddingDataModule
from embedft.data.keys import Ints
from embedft.data.topics import topic_places
from embedft.encoder.encoder import Encoder
from embedft.progress import progress


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
    batches = TextBatches(data.tokens, questions, data.eval_batch_size)
    device = trainer.strategy.root_device
    encoder.eval()
    with torch.no_grad(), trainer.precision_plugin.forward_context():
        for index in progress(range(len(batches)), desc="embedding for topics", unit=" batches"):
            batch = batches[index]
            embeddings = encoder(batch.input_ids.to(device), batch.lengths).float()
            places = np.searchsorted(questions, batch.texts.numpy())
            table[places] = torch.nn.functional.normalize(embeddings, dim=-1).cpu().numpy()
    encoder.train()
    return table[row_of]
