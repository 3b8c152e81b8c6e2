"""What ``auto`` is for the training pairs and their batches; see docs/quality.md."""

from __future__ import annotations

import logging
from typing import Literal

from lightning.pytorch import Trainer

from embedft.data.datamodule import EmbeddingDataModule
from embedft.losses import Loss, MultipleNegativesRankingLoss
from embedft.training.trainer import EmbedftTrainer

log = logging.getLogger(__name__)

LARGE = 10_000
"""Training pairs from which on a set is large: fewer epochs find enough, and forget less."""
EPOCHS, LARGE_EPOCHS = 3, 2
RATE, LARGE_RATE = 1e-4, 1.25e-4
ONE_ANSWER_SHARE, SEVERAL_ANSWERS_SHARE, LARGE_SHARE = 0.4, 0.3, 0.35
"""Shares of the base model where a question has one answer, where some have several, which find
less with more of it, and of these where the set is large, which forgets more."""


def choose_epochs(trainer: Trainer, pairs: int) -> None:
    """Settles ``max_epochs: auto``, once, and says so in the log.

    Args:
        trainer: Of the run.
        pairs: That are trained on.
    """
    if isinstance(trainer, EmbedftTrainer) and trainer.auto_epochs:
        trainer.auto_epochs = False
        trainer.fit_loop.max_epochs = LARGE_EPOCHS if pairs >= LARGE else EPOCHS
        log.info("max_epochs auto: %d for %d training pairs", trainer.max_epochs, pairs)


def choose_rate(learning_rate: float | Literal["auto"], pairs: int) -> float:
    """The peak rate; ``auto`` is higher for the fewer epochs of a large set.

    Args:
        learning_rate: As it was asked for.
        pairs: That are trained on.
    """
    if learning_rate == "auto":
        return LARGE_RATE if pairs >= LARGE else RATE
    return learning_rate


def choose_auto(
    base_share: float | Literal["auto"], loss: Loss, data: EmbeddingDataModule
) -> float:
    """Settles what is ``auto`` in a loss and of the share of the base model; says so in the log.

    Args:
        base_share: As it was asked for.
        loss: What is ``auto`` in it is replaced.
        data: Has loaded its data.

    Returns:
        The share of the base model.
    """
    chosen: dict[str, float] = {}
    rows, by_topic = data.pairs, data.by_topic
    if isinstance(loss, MultipleNegativesRankingLoss):
        chosen = loss.choose_auto(rows.one_answer, by_topic and not rows.of_whole_files)
    if base_share == "auto":
        several = LARGE_SHARE if len(rows) >= LARGE else SEVERAL_ANSWERS_SHARE
        base_share = ONE_ANSWER_SHARE if rows.one_answer else several
        chosen["base_share"] = base_share
    if chosen:
        log.info(
            "%s: %.2f%% of the questions have several answers, %.0f%% of the pairs another of "
            "their file, batches are %sby topic",
            ", ".join(f"{name} auto: {value:g}" for name, value in chosen.items()),
            100 * rows.several_answers,
            100 * rows.share_a_file,
            "" if by_topic else "not ",
        )
    return base_share
