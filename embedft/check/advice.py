"""What to change before training: rules about the measures of ``check``.

Each rule is a function that yields lines of advice, each with what to type. A new rule is one more
function in :data:`DATA_RULES` or :data:`RUN_RULES`. docs/checking.md says where the limits of the
rules come from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from lightning.pytorch import Trainer

from embedft.check.estimate import RunEstimate
from embedft.check.measures import LENGTH_LIMITS, DataMeasures
from embedft.data.datamodule import EmbeddingDataModule
from embedft.data.pairs import RELEVANT, target_names
from embedft.data.ties import problems
from embedft.encoder.loading import max_positions
from embedft.evaluation.significance import detectable_gain
from embedft.recipe import AUTO, LEARNING_RATE, warmup_length
from embedft.table.tokens import describe_truncation
from embedft.training.module import EmbeddingModule

TINY, SMALL, LARGE = 300, 1_000, 10_000
"""Training pairs below which a set is tiny or small, and from which on it is large."""
_ONE_LANGUAGE = 100_000  # pieces: English vocabularies have 30,000 to 50,000, multilingual more


class CheckedRun(NamedTuple):
    """The data and the settings of a run that was checked."""

    data: DataMeasures
    estimate: RunEstimate
    module: EmbeddingModule
    settings: EmbeddingDataModule
    trainer: Trainer


def data_advice(data: DataMeasures) -> Iterator[str]:
    """Advice on the file."""
    for rule in DATA_RULES:
        yield from rule(data)


def run_advice(run: CheckedRun) -> Iterator[str]:
    """Advice on the file and the settings together."""
    for rule in RUN_RULES:
        yield from rule(run)


def _no_file_name(data: DataMeasures) -> Iterator[str]:
    if (nameless := data.issues["nameless"]).share > 0.01:
        yield (
            f"{nameless.count:,} rows have no file_name: give each the name of its document, or "
            "passages of one document may be both trained on and held out"
        )


def _near_duplicate_answers(data: DataMeasures) -> Iterator[str]:
    if (near := data.issues["near_answers"]).share > 0.01:
        yield (
            f"{near.count:,} answers are near-duplicates of another: within a batch, each counts "
            "as a wrong answer to the other's question; keep one of each (--html FILE shows "
            "examples)"
        )


def _repeated_answer(data: DataMeasures) -> Iterator[str]:
    if (same := data.most_repeated_answer).count >= 5 and same.share > 0.01:
        yield (
            f"{same.count:,} rows have the answer of line {same.lines[0][0]}: remove them if it "
            "does not answer the questions"
        )


def _copied_questions(data: DataMeasures) -> Iterator[str]:
    if (copied := data.issues["copied"]).share > 0.2:
        yield (
            f"{copied.share:.0%} of the questions are copied almost verbatim from their answers; "
            "the base model finds these already: rephrase them the way users would"
        )


DATA_RULES: tuple[Callable[[DataMeasures], Iterator[str]], ...] = (
    _no_file_name,
    _near_duplicate_answers,
    _repeated_answer,
    _copied_questions,
)
"""The rules about the file, in the order of their lines."""


def _size(run: CheckedRun) -> Iterator[str]:
    pairs, batch_size = len(run.estimate.train), run.estimate.batch_size
    size = "small" if pairs < SMALL else "large" if pairs >= LARGE else "medium"
    epochs = run.trainer.max_epochs or 0
    changes = []
    if pairs < SMALL and run.module.learning_rate < 5e-5:
        changes.append(f"--learning_rate {LEARNING_RATE:g}, because so few steps need a high rate")
    if pairs < LARGE and epochs > 4:
        changes.append("--epochs 3, because more epochs did not improve nDCG@10")
    if pairs < TINY and 32 < batch_size <= pairs:
        changes.append("--batch_size 32, for more steps")
    if pairs >= SMALL and batch_size < 32:
        changes.append("--batch_size 64, for more in-batch negatives")
    if pairs >= LARGE and epochs > 1 and run.trainer.check_val_every_n_epoch is not None:
        changes.append("--evaluation_steps 500, to see whether one epoch is enough")
    advice = "; ".join(changes) or "the settings suit this size"
    yield f"{size} set ({pairs:,} training rows): {advice}"


def _batch_size(run: CheckedRun) -> Iterator[str]:
    pairs, batch_size = len(run.estimate.train), run.estimate.batch_size
    if batch_size > pairs:
        smaller = 2 ** max(1, min(5, int(math.log2(pairs / 4)))) if pairs > 8 else 2
        yield (
            f"a step takes {batch_size:,} pairs, more than the {pairs:,} training pairs, so an "
            f"epoch is one step: use --batch_size {smaller}"
        )


def _warmup(run: CheckedRun) -> Iterator[str]:
    warmup, steps = run.estimate.warmup, run.estimate.steps
    if warmup > steps / 2:
        yield (
            f"warm-up of {warmup:,} steps is longer than half of the run ({steps:,} steps): use "
            f"--warmup_steps auto, which takes {warmup_length(AUTO, steps)}"
        )


def _shared_texts(run: CheckedRun) -> Iterator[str]:
    yield from problems(run.estimate.shared, run.settings.positive)


def _answer_fit(run: CheckedRun) -> Iterator[str]:
    if run.estimate.answer_fit is not None and run.settings.validation_jsonl is None:
        lines = run.data.texts.line
        yield from run.estimate.answer_fit.problems(lambda rows: lines[np.array(rows)].tolist())


def _large_group(run: CheckedRun) -> Iterator[str]:
    rows, sizes = len(run.data.used), run.data.group_sizes(run.estimate.max_files)
    if run.settings.validation_jsonl is None and sizes.max() > 0.3 * rows:
        yield (
            f"one group holds {sizes.max() / rows:.0%} of the rows, which share files, questions "
            "or answers: use smaller files (chapters, pages) as file_name, or give "
            "--validation_jsonl FILE"
        )


def _few_held_out(run: CheckedRun) -> Iterator[str]:
    questions, groups, settings = run.estimate.questions, run.estimate.groups, run.settings
    if questions >= 200 and groups >= 50:
        return
    more = "to hold out more, use --train_split 0.8"
    can_hold_out_more = settings.validation_jsonl is None and settings.train_split > 0.8
    if not can_hold_out_more or len(run.data.used) < 20:
        more = "more questions are needed"
    yield (
        f"only {questions} held-out questions from {groups} files or groups: a gain in nDCG@10 "
        f"below about {detectable_gain(questions, groups):.2f} will not be significant (95% "
        f"interval); {more}"
    )


def _leaks(run: CheckedRun) -> Iterator[str]:
    train, held_out, texts = run.estimate.train, run.estimate.held_out, run.data.texts
    if held_out is None:
        return
    held_out = np.setdiff1d(held_out, run.estimate.not_evaluated)
    leaked = [
        np.isin(near[held_out], near[train]) for near in (texts.near_question, texts.near_answer)
    ]
    if count := int(np.any(leaked, axis=0).sum()):
        yield (
            f"{count:,} held-out rows have a question or answer that is a near-duplicate of a "
            "training row's, so the gain will look too large: give such rows the same file_name"
        )


def _lengths(run: CheckedRun) -> Iterator[str]:
    encoder, share_longer = run.module.encoder, run.data.share_longer
    limit, most = encoder.max_seq_length, max_positions(encoder.base.config)
    for name in ("questions", *target_names(run.settings.positive)):
        if (share := share_longer(name, limit)) <= 0.05:
            continue
        longer = [x for x in sorted({*LENGTH_LIMITS, most or 0}) if limit < x <= (most or x)]
        enough = [x for x in longer if share_longer(name, x) <= 0.05]
        best = [*enough, *longer[-1:]][:1]
        problem = describe_truncation(limit, {name: share})
        if best and (rest := share_longer(name, best[0])) < 0.8 * share:
            yield f"{problem}: --max_seq_length {best[0]} cuts {rest:.1%}, and is slower"
        elif name == "questions":
            yield f"{problem}: shorten them, or use a base model for longer texts"
        else:
            yield f"{problem}: split them into passages of fewer tokens, one row each"


def _languages(run: CheckedRun) -> Iterator[str]:
    languages, unknown = run.data.texts.languages, run.data.unknown_share
    other = 1 - languages["en"] / languages.total()
    pieces = len(run.module.encoder.tokenizer)
    if unknown > 0.01:
        yield (
            f"{unknown:.1%} of the tokens are unknown to the base model's tokenizer: use --config "
            "configs/multilingual.yaml, or a model for this language"
        )
    elif other > 0.1 and pieces < _ONE_LANGUAGE:
        yield (
            f"{other:.0%} of the rows are not in English, but the base model's vocabulary "
            f"({pieces:,} pieces) is that of a single language: use --config "
            "configs/multilingual.yaml, unless the model is for your language"
        )


def _labels(run: CheckedRun) -> Iterator[str]:
    label, loss = run.data.table.label, run.module.loss
    if label is None:
        if loss.needs_labels:
            yield (
                f"the rows have no labels, so {type(loss).__name__} draws wrong answers at random: "
                "--loss_function MultipleNegativesRankingLoss uses the other answers of the batch, "
                "which mostly gives a higher nDCG@10"
            )
        return
    below = int((label[run.data.used] < RELEVANT).sum())
    if below and not loss.needs_labels:
        better = "Contrastive" if np.isin(label, (0, 1)).all() else "CosineSimilarity"
        yield (
            f"{below:,} rows with a label below {RELEVANT} are not trained on: --loss_function "
            f"{better}Loss uses them"
        )


def _time(run: CheckedRun) -> Iterator[str]:
    hours = (run.estimate.train_seconds + run.estimate.eval_seconds) / 3600
    if hours > 1 and run.estimate.device.startswith("cpu"):
        yield (
            f"about {hours:.1f} hours on this CPU: use a GPU, --epochs 1 or a smaller "
            "--max_seq_length, or try --trainer.max_steps 100 first"
        )


RUN_RULES: tuple[Callable[[CheckedRun], Iterator[str]], ...] = (
    _size,
    _batch_size,
    _warmup,
    _answer_fit,
    _shared_texts,
    _large_group,
    _few_held_out,
    _leaks,
    _lengths,
    _languages,
    _labels,
    _time,
)
"""The rules about the file and the settings together, in the order of their lines."""
