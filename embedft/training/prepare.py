"""Work before the first step: the recipe is settled, negatives are mined, topics are found."""

from __future__ import annotations

import logging
from dataclasses import replace

from lightning.pytorch import Trainer

from embedft.data.datamodule import EmbeddingDataModule
from embedft.encoder.encoder import Encoder
from embedft.inference.embed import Embeddings
from embedft.inference.hard_negatives import mine_negatives
from embedft.inference.topics import pair_topic_positions
from embedft.losses import Loss, MultipleNegativesRankingLoss
from embedft.recipe import Asked, Recipe, choose
from embedft.training.trainer import EmbedftTrainer

log = logging.getLogger(__name__)


def settle_recipe(trainer: Trainer, data: EmbeddingDataModule, loss: Loss, asked: Asked) -> Recipe:
    """Chooses the recipe of a run, logs what ``auto`` chose, and hands it to all that use it.

    Args:
        trainer: Gets the epochs.
        data: Has loaded its data; gets the kind of batches.
        loss: Gets margin and label smoothing.
        asked: What was asked for; epochs, margin and label smoothing are read from the trainer and
            the loss.

    Returns:
        The recipe.
    """
    epochs = trainer.asked_epochs if isinstance(trainer, EmbedftTrainer) else trainer.max_epochs
    asked = replace(asked, max_epochs=epochs)
    if isinstance(loss, MultipleNegativesRankingLoss):
        asked = replace(
            asked, additive_margin=loss.additive_margin, label_smoothing=loss.label_smoothing
        )
    recipe = choose(asked, data.fit_data.facts)
    for line in recipe.reasons.values():
        log.info("%s", line)
    if "max_epochs" in recipe.reasons:
        trainer.fit_loop.max_epochs = recipe.max_epochs
    if isinstance(loss, MultipleNegativesRankingLoss):
        assert recipe.additive_margin is not None
        assert recipe.label_smoothing is not None
        loss.additive_margin = recipe.additive_margin
        loss.label_smoothing = recipe.label_smoothing
    data.training.use_recipe(recipe)
    return recipe


def prepare_batches(
    encoder: Encoder, data: EmbeddingDataModule, trainer: Trainer
) -> Embeddings | None:
    """Mines hard negatives and finds topics by the base model, if the recipe asks for them.

    A resumed run brings both in its checkpoint.

    Returns:
        The base model's embeddings of all texts, if they were computed on this rank.
    """
    known = None
    if data.training.recipe.mine_negatives and data.training.mined is None:
        known = mine_negatives(encoder, data, trainer)
    if data.training.recipe.topic_batches and data.training.topic_position is None:
        data.training.order_by_topic(pair_topic_positions(encoder, data, trainer, known))
    if left_out := len(data.pairs) - len(data.train_batches(0).plan.pairs):
        log.info(
            "%d of %d pairs are left out of this epoch (rotating), because their question or "
            "answer occurs in more rows than there are batches",
            left_out,
            len(data.pairs),
        )
    return known
