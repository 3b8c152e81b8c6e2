"""Embedding texts apart from training: in batches, by one device, without Lightning's loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from lightning.pytorch import Trainer
from numpy.typing import NDArray

from embedft.data.batches import EvalBatch, TextBatches
from embedft.data.keys import Ints
from embedft.encoder.encoder import Encoder
from embedft.errors import InputError
from embedft.progress import progress
from embedft.training.trainer import EmbedftTrainer


def one_device_trainer(accelerator: str, precision: str) -> EmbedftTrainer:
    """A trainer that chooses device and precision, and writes nothing.

    Args:
        accelerator: Lightning's: ``auto``, ``cpu``, ``gpu``, ...
        precision: Lightning's, or ``auto``: bf16 where the hardware has it.

    Raises:
        InputError: There is no such device or precision.
    """
    try:
        return EmbedftTrainer(
            accelerator=accelerator,
            devices=1,
            precision=precision,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
    except ValueError as error:  # Lightning's refusal of a name
        raise InputError(str(error)) from None


def embed_texts(
    encoder: Encoder,
    batches: TextBatches | Sequence[EvalBatch],
    trainer: Trainer,
    put: Callable[[Ints, NDArray[np.float32]], None],
    description: str = "",
) -> None:
    """Embeds batch after batch, without dropout and gradients.

    Args:
        encoder: Moved to the trainer's device; trains on afterwards if it did before.
        batches: The texts.
        trainer: Gives device and precision.
        put: Called after each batch with the numbers of its texts, (texts,), and their
            embeddings, (texts, D), any length.
        description: Of the progress bar; none where it is empty.

    Raises:
        InputError: An embedding is NaN or infinite.
    """
    device = trainer.strategy.root_device
    trainer.precision_plugin.convert_module(encoder).to(device)
    trained = encoder.training
    encoder.eval()
    indices = range(len(batches))
    bar = progress(indices, desc=description, unit=" batches") if description else indices
    try:
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            for index in bar:
                batch = batches[index]
                embeddings = encoder(batch.input_ids.to(device), batch.lengths).float().cpu()
                if not embeddings.isfinite().all():
                    raise InputError(
                        f"base_model {encoder.base.name}: an embedding is NaN or infinite; its "
                        "weights are broken, or --precision 32-true is needed"
                    )
                put(batch.texts.numpy(), embeddings.numpy())
    finally:
        encoder.train(trained)
