"""The recipe: every setting that ``auto`` chooses, in one place.

``choose(asked, facts)`` turns what the user asked for and what the data is into a :class:`Recipe`.
Constants stand first, then the rules in words, which help texts and documentation repeat, then the
rules themselves. docs/quality.md shows what each of them is worth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal

AUTO: Final = "auto"
Auto = Literal["auto"]
WarmupSteps = int | Auto

LARGE_SET = 10_000
"""Training pairs from which on a set is large: it takes fewer epochs at a higher rate."""
EPOCHS, EPOCHS_LARGE = 3, 2
LEARNING_RATE, LEARNING_RATE_LARGE = 1e-4, 1.25e-4
WARMUP_FRACTION, WARMUP_LIMIT = 10, 500
"""Warm-up is one step in ``WARMUP_FRACTION``, and at most ``WARMUP_LIMIT`` steps."""
FEW_SEVERAL_ANSWERS = 0.002
"""Share of questions with several answers below which each question counts as having one answer.
SciQAG has 0.001, MedQuAD 0.1, and draws of 500 pairs of it 0.006."""
MOST_SHARE_A_FILE = 0.5
"""Share of pairs that share a file with another pair above which batches are made by file."""
TOPIC_PAIRS = 1000
"""Training pairs from which on batches are made by topic."""
MARGIN, MARGIN_SMOOTHED, SMOOTHING = 0.15, 0.2, 0.1
SHARE_ONE_ANSWER, SHARE_SEVERAL, SHARE_SEVERAL_LARGE = 0.4, 0.3, 0.35
"""Shares of the base model's weights in ``best_model``."""

RULES: dict[str, str] = {
    "max_epochs": f"{EPOCHS}, or {EPOCHS_LARGE} from {LARGE_SET:,} training pairs on",
    "learning_rate": (
        f"{LEARNING_RATE:g}, or {LEARNING_RATE_LARGE:g} from {LARGE_SET:,} training pairs on"
    ),
    "warmup_steps": f"1 step in {WARMUP_FRACTION} of the run, at most {WARMUP_LIMIT}",
    "base_share": (
        f"{SHARE_ONE_ANSWER:g} if fewer than {FEW_SEVERAL_ANSWERS:.1%} of the questions have "
        f"several answers; else {SHARE_SEVERAL:g}, or {SHARE_SEVERAL_LARGE:g} from {LARGE_SET:,} "
        "training pairs on"
    ),
    "additive_margin": (
        f"{MARGIN:g}, or {MARGIN_SMOOTHED:g} with label smoothing, if fewer than "
        f"{FEW_SEVERAL_ANSWERS:.1%} of the questions have several answers; else 0"
    ),
    "label_smoothing": (
        f"{SMOOTHING:g} in batches by topic, if fewer than {FEW_SEVERAL_ANSWERS:.1%} of the "
        f"questions have several answers and at most {MOST_SHARE_A_FILE:.0%} of the pairs share "
        "their file with another pair; else 0"
    ),
    "topic_batches": (
        f"on from {TOPIC_PAIRS:,} training pairs on, if fewer than {FEW_SEVERAL_ANSWERS:.1%} of "
        "the questions have several answers and file_batches is not true"
    ),
    "file_batches": (
        f"on if more than {MOST_SHARE_A_FILE:.0%} of the pairs share their file with another "
        "pair and topic_batches is off"
    ),
}
"""What ``auto`` means, by setting; help texts, docstrings and docs repeat these words."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the training data is.

    Attributes:
        pairs: Training pairs.
        several_answers: Share of the distinct questions that have several answers, from 0 to 1.
        share_a_file: Share of the pairs that share their file with another pair, from 0 to 1.
        pairs_with_negatives: Training pairs for which the file names hard negatives.
        needs_labels: The loss compares labelled pairs, so a batch has no in-batch negatives.
    """

    pairs: int
    several_answers: float = 0.0
    share_a_file: float = 0.0
    pairs_with_negatives: int = 0
    needs_labels: bool = False

    @property
    def one_answer(self) -> bool:
        """Hardly any question has several answers, which would be negatives of each other."""
        return self.several_answers < FEW_SEVERAL_ANSWERS

    @property
    def by_file(self) -> bool:
        """Most pairs share their file with another pair."""
        return self.share_a_file > MOST_SHARE_A_FILE


@dataclass(frozen=True, slots=True)
class Asked:
    """What the user asked for: a value, or ``auto``. ``None`` is a setting that is not there."""

    max_epochs: int | Auto | None = None
    learning_rate: float | Auto | None = None
    warmup_steps: WarmupSteps = AUTO
    base_share: float | Auto = 0.0
    additive_margin: float | Auto | None = None
    label_smoothing: float | Auto | None = None
    topic_batches: bool | Auto = False
    file_batches: bool | Auto = False
    mine_negatives: bool = False
    hard_negatives: int = 1


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a run takes: plain values, and why ``auto`` chose them.

    Checkpoints, model card, report and the check of a resumed run all keep :meth:`settings`.
    """

    max_epochs: int | None
    learning_rate: float | None
    warmup_steps: WarmupSteps
    base_share: float
    additive_margin: float | None
    label_smoothing: float | None
    topic_batches: bool
    file_batches: bool
    mine_negatives: bool
    reasons: Mapping[str, str] = field(default_factory=dict)
    """One line for each setting that ``auto`` chose: its value and the reason."""

    def settings(self) -> dict[str, Any]:
        """The values by name, without those that the run does not have."""
        return {
            setting.name: value
            for setting in fields(self)
            if setting.name != "reasons" and (value := getattr(self, setting.name)) is not None
        }

    def warmup(self, steps: int) -> int:
        """Warm-up steps of a run of ``steps`` steps."""
        return warmup_length(self.warmup_steps, steps)


def warmup_length(warmup_steps: WarmupSteps, steps: int) -> int:
    """Warm-up steps: a number is kept, ``auto`` depends on the steps of the run."""
    if warmup_steps == AUTO:
        return min(WARMUP_LIMIT, steps // WARMUP_FRACTION)
    return warmup_steps


def choose(asked: Asked, facts: Facts) -> Recipe:
    """Settles every ``auto``.

    Args:
        asked: What the user asked for.
        facts: What the training data is.

    Returns:
        Values without ``auto``, but for the warm-up, which needs the steps of the run.
    """
    reasons: dict[str, str] = {}
    large = facts.pairs >= LARGE_SET

    def settle(name: str, value: Any, reason: str) -> Any:
        given = getattr(asked, name)
        if given != AUTO:
            return given
        shown = ("on" if value else "off") if isinstance(value, bool) else f"{value:g}"
        reasons[name] = f"{name} auto: {shown} ({reason})"
        return value

    size = f"{facts.pairs:,} training pairs"
    answers = f"{facts.several_answers:.2%} of the questions have several answers"
    files = f"{facts.share_a_file:.0%} of the pairs share their file with another pair"

    max_epochs = settle("max_epochs", EPOCHS_LARGE if large else EPOCHS, size)
    rate = settle("learning_rate", LEARNING_RATE_LARGE if large else LEARNING_RATE, size)

    # Topics and files both decide which pairs share a batch: what is asked for comes first.
    no_candidates = "this loss has no in-batch negatives"
    topics, why = facts.one_answer and facts.pairs >= TOPIC_PAIRS, f"{size}, {answers}"
    if facts.needs_labels or asked.file_batches is True:
        topics, why = False, no_candidates if facts.needs_labels else "file_batches is true"
    topic_batches = settle("topic_batches", topics, why)
    by_file, why = facts.by_file, files
    if facts.needs_labels or topic_batches:
        by_file, why = False, no_candidates if facts.needs_labels else "batches are by topic"
    file_batches = settle("file_batches", by_file, why)

    spread = topic_batches and not facts.by_file  # a batch holds like pairs of different files
    smoothing = settle(
        "label_smoothing",
        SMOOTHING if facts.one_answer and spread else 0.0,
        f"{answers}, {files}, batches are {'' if topic_batches else 'not '}by topic",
    )
    margin = MARGIN_SMOOTHED if smoothing else MARGIN
    margin = settle("additive_margin", margin if facts.one_answer else 0.0, answers)

    several = SHARE_SEVERAL_LARGE if large else SHARE_SEVERAL
    share = SHARE_ONE_ANSWER if facts.one_answer else several
    share = settle("base_share", share, answers if facts.one_answer else f"{answers}, {size}")

    return Recipe(
        max_epochs=max_epochs,
        learning_rate=rate,
        warmup_steps=asked.warmup_steps,
        base_share=share,
        additive_margin=margin,
        label_smoothing=smoothing,
        topic_batches=topic_batches,
        file_batches=file_batches,
        mine_negatives=(
            asked.mine_negatives and asked.hard_negatives > 0 and not facts.pairs_with_negatives
        ),
        reasons=reasons,
    )
