"""What ``auto`` is for the training pairs and their batches; see docs/quality.md."""

from __future__ import annotations

import logging
from typing import Literal

from embedft.data.datamodule import EmbeddingDataModule
from embedft.losses import Loss, MultipleNegativesRankingLoss

log = logging.getLogger(__name__)

ONE_ANSWER_SHARE, SEVERAL_ANSWERS_SHARE = 0.4, 0.3
"""Shares of the base model where a question has one answer and where some have several: the second
find less with more of it."""


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
    rows, by_topic = data.rows, data.by_topic
    if isinstance(loss, MultipleNegativesRankingLoss):
        chosen = loss.choose_auto(rows.one_answer, by_topic and not rows.of_whole_files)
    if base_share == "auto":
        base_share = ONE_ANSWER_SHARE if rows.one_answer else SEVERAL_ANSWERS_SHARE
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
