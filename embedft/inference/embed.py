"""Embedding texts outside a training: in batches, on one device, without Lightning's loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from lightning.pytorch import Trainer
from numpy.typing import NDArray

from embedft.data.batches import EvalBatch, TextBatches
from embedft.encoder.encoder import Encoder
from embedft.errors import InputError
from embedft.table.keys import Ints
from embedft.table.tokens import TokenStore
from embedft.tools.device import choose_precision, keep_freed_memory
from embedft.tools.finite import all_finite
from embedft.tools.progress import progress


def one_device_trainer(accelerator: str, precision: str) -> Trainer:
    """A trainer that only chooses device and precision; it writes nothing.

    Args:
        accelerator: As for Lightning: ``auto``, ``cpu``, ``gpu``, ...
        precision: As for Lightning, or ``auto``: bf16 if the hardware has it, else float32.

    Raises:
        InputError: There is no such device or precision.
    """
    try:
        trainer = Trainer(
            accelerator=accelerator,
            devices=1,
            precision=choose_precision(precision, accelerator),  # type: ignore[arg-type]
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
    except ValueError as error:  # Lightning does not know a name
        raise InputError(str(error)) from None
    if trainer.strategy.root_device.type == "cpu":
        keep_freed_memory()
    return trainer


def embed_texts(
    encoder: Encoder,
    batches: TextBatches | Sequence[EvalBatch],
    trainer: Trainer,
    put: Callable[[Ints, NDArray[np.float32]], None],
    description: str = "",
) -> None:
    """Embeds batch after batch, without dropout and gradients.

    Args:
        encoder: Moved to the trainer's device; its training mode is restored afterwards.
        batches: The texts.
        trainer: Gives device and precision.
        put: Called after each batch with the ids of its texts, (texts,), and their embeddings,
            (texts, D) float32, not necessarily of unit length.
        description: Label of the progress bar; empty for no bar.

    Raises:
        InputError: An embedding is NaN or infinite.
    """
    device = trainer.strategy.root_device
    trainer.precision_plugin.convert_module(encoder).to(device)
    was_training = encoder.training
    encoder.eval()
    indices = range(len(batches))
    bar = progress(indices, desc=description, unit=" batches") if description else indices
    try:
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            for index in bar:
                batch = batches[index]
                embeddings = encoder(batch.input_ids.to(device), batch.lengths).float().cpu()
                if not all_finite(embeddings):
                    raise InputError(
                        f"base_model {encoder.base.name}: an embedding is NaN or infinite. Its "
                        "weights are broken, or it needs --precision 32-true"
                    )
                put(batch.texts.numpy(), embeddings.numpy())
    finally:
        encoder.train(was_training)


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Embeddings of distinct texts.

    Attributes:
        texts: (texts,) int64 ids of the texts, ascending.
        table: (texts, D) float32, not necessarily of unit length.
    """

    texts: Ints
    table: NDArray[np.float32]

    def lookup(self, texts: Ints) -> NDArray[np.float32]:
        """(texts, D) the embeddings of these texts; each must be among :attr:`texts`."""
        found: NDArray[np.float32] = self.table[np.searchsorted(self.texts, texts)]
        return found


def embed_distinct(
    encoder: Encoder,
    tokens: TokenStore,
    texts: Ints,
    batch_size: int,
    trainer: Trainer,
    description: str,
) -> Embeddings:
    """Embeds each distinct text once.

    Args:
        encoder: As for :func:`embed_texts`.
        tokens: The tokens of all texts.
        texts: (texts,) ids of the texts to embed, in any order; may repeat.
        batch_size: Texts per batch.
        trainer: Gives device and precision.
        description: Label of the progress bar.

    Raises:
        InputError: An embedding is NaN or infinite.
    """
    distinct = np.unique(texts)
    table = np.empty((len(distinct), encoder.embedding_dim), dtype=np.float32)

    def put(batch_texts: Ints, embeddings: NDArray[np.float32]) -> None:
        table[np.searchsorted(distinct, batch_texts)] = embeddings

    embed_texts(encoder, TextBatches(tokens, distinct, batch_size), trainer, put, description)
    return Embeddings(distinct, table)
