"""Settings of a run that are refused: out of range, or not fit for its data."""

from __future__ import annotations

import logging

from lightning.pytorch import Trainer

from embedft.data.datamodule import EmbeddingDataModule
from embedft.errors import InputError
from embedft.losses import Loss, OnlineContrastiveLoss
from embedft.recipe import WarmupSteps

log = logging.getLogger(__name__)


def check_numbers(
    chunk_size: int | None,
    base_share: float,
    learning_rate: float,
    warmup_steps: WarmupSteps,
    dropout: float | None,
    weight_decay: float,
) -> None:
    """Refuses settings that are out of range; needs no model.

    Raises:
        InputError: A setting is out of range.
    """
    if chunk_size is not None and chunk_size < 1:
        raise InputError(f"chunk_size: is {chunk_size}, must be at least 1 (usual: 32)")
    if not 0 <= base_share < 1:
        raise InputError(f"base_share: is {base_share}, must be from 0 to below 1 (usual: 0.3)")
    if dropout is not None and not 0 <= dropout < 1:
        raise InputError(f"dropout: is {dropout}, must be from 0 to below 1 (usual: 0.1)")
    if not learning_rate > 0:
        raise InputError(f"learning_rate: is {learning_rate}, must be above 0 (usual: 1e-4)")
    if not weight_decay >= 0:
        raise InputError(f"weight_decay: is {weight_decay}, must be 0 or more (usual: 0.01)")
    if isinstance(warmup_steps, int) and warmup_steps < 0:
        raise InputError(f"warmup_steps: is {warmup_steps}, must be 0 or more, or auto")


def check_interval(trainer: Trainer, data: EmbeddingDataModule) -> None:
    """Refuses a ``val_check_interval`` of more batches than an epoch has, before a run begins.

    Args:
        trainer: Of the run.
        data: Loaded, and knows the trainer.

    Raises:
        InputError: It is longer, and is not counted over epochs.
    """
    every, limit = trainer.val_check_interval, trainer.limit_train_batches
    if trainer.check_val_every_n_epoch is None or not isinstance(every, int):
        return
    batches = len(data.train_batches(0))
    batches = min(batches, limit if isinstance(limit, int) else int(limit * batches))
    if every > batches:
        raise InputError(
            f"val_check_interval: is {every}, more than the {batches} batches of an epoch; "
            f"--evaluation_steps {every} counts over epochs"
        )


def check_end(max_epochs: int | None, max_steps: int) -> None:
    """Refuses a run without an end, or without a step.

    Raises:
        InputError: The run has no end, or no step.
    """
    if isinstance(max_epochs, int) and max_epochs < 0 and max_steps < 0:
        raise InputError("epochs: the run has no end; give --epochs 3, or --trainer.max_steps 1000")
    if max_epochs == 0:
        raise InputError("epochs: is 0, must be at least 1")
    if max_steps == 0:
        raise InputError("max_steps: is 0, must be at least 1")


def check_loss_fits_data(loss: Loss, data: EmbeddingDataModule) -> None:
    """Refuses hard negatives that a loss can't take; warns of labels that it leaves out.

    Args:
        loss: Of the run.
        data: Loaded.

    Raises:
        InputError: The loss can't leave out a hard negative that a pair does not have.
    """
    if data.training.n_hard_negatives and not loss.needs_labels and not loss.takes_mask:
        raise InputError(
            f"loss {type(loss).__name__}: does not support hard negatives; add negatives_BND and "
            "mask_BC to its forward(), or leave hard negatives out with --data.hard_negatives 0"
        )
    labels = data.pairs.labels
    if isinstance(loss, OnlineContrastiveLoss) and labels is not None:
        others = int(((labels != 0) & (labels != 1)).sum())
        if others:
            log.warning(
                "%d of %d labels are neither 0 nor 1, and OnlineContrastiveLoss leaves those pairs "
                "out; ContrastiveLoss and CosineSimilarityLoss use them",
                others,
                len(labels),
            )
