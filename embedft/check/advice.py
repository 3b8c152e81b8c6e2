"""What to change before training: rules on what ``check`` measured, each a line with what to type.

docs/checking.md says where the figures of the rules are from.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from lightning.pytorch import Trainer

from embedft.check.estimate import RunEstimate
from embedft.check.measures import DataIssue, DataMeasures
from embedft.data.datamodule import EmbeddingDataModule
from embedft.data.pairs import target_names
from embedft.encoder.loading import max_positions
from embedft.recipe import AUTO, LARGE_SET, warmup_length
from embedft.table.tokens import describe_truncation
from embedft.training.module import EmbeddingModule

LIMITS = (128, 256, 384, 512)
"""Tokens at which models are usually cut."""
TINY, SMALL = 300, 1_000
"""Training pairs below which a set is tiny or small."""
_ONE_LANGUAGE = 100_000  # pieces: English vocabularies have 30,000 to 50,000, multilingual more


def about_data(data: DataMeasures, found: dict[str, DataIssue]) -> Iterator[str]:
    """What the file alone says."""
    if (nameless := found["nameless"]).share > 0.01:
        yield (
            f"{nameless.count:,} rows name no file: give each a file_name (its document), or "
            "passages of one document may lie on both sides of the split"
        )
    if (near := found["near_answers"]).share > 0.01:
        yield (
            f"{near.count:,} answers nearly repeat another: in a batch each counts as wrong for "
            "the other's question; keep one of each (--html FILE has lines)"
        )
    if (same := data.most_repeated_answer).count >= 5 and same.share > 0.01:
        yield (
            f"{same.count:,} rows have the answer of line {same.lines[0][0]}: leave them out if it "
            "says nothing of its own"
        )
    if (copied := found["copied"]).share > 0.2:
        yield (
            f"{copied.share:.0%} of the questions stand in their answers nearly word by word: they "
            "are found without training, so ask in other words, as your users do"
        )


def about_run(
    data: DataMeasures,
    found: dict[str, DataIssue],
    run: RunEstimate,
    module: EmbeddingModule,
    settings: EmbeddingDataModule,
    trainer: Trainer,
) -> Iterator[str]:
    """What the file and the settings say together."""
    yield from _size(run, module, trainer)
    yield from _steps(run, module)
    yield from _split(data, run, settings)
    yield from _lengths(data, module, settings)
    yield from _languages(data, module)
    yield from _labels(data, module)
    if settings.topic_batches is True and found["several_answers"].share > 0.02:
        yield (
            f"{found['several_answers'].share:.0%} of the questions have several answers: "
            "--data.topic_batches false, or they count as wrong for each other"
        )
    hours = (run.train_seconds + run.eval_seconds) / 3600
    if hours > 1 and run.device.startswith("cpu"):
        yield (
            f"about {hours:.1f} hours on this CPU: use a GPU, or --epochs 1 or a smaller "
            "--max_seq_length, or try first with --trainer.max_steps 100"
        )


def _size(run: RunEstimate, module: EmbeddingModule, trainer: Trainer) -> Iterator[str]:
    pairs = len(run.train)
    size = "small" if pairs < SMALL else "large" if pairs >= LARGE_SET else "medium"
    said = f"{size} set ({pairs:,} rows to train on): "
    epochs = trainer.max_epochs or 0
    changes = []
    if pairs < SMALL and float(module.learning_rate) < 5e-5:
        changes.append("--config configs/recommended.yaml, whose rate of 1e-4 suits few steps")
    if pairs < LARGE_SET and epochs > 4:
        changes.append("--epochs 3, more found no more")
    if pairs < TINY and 32 < run.batch_size <= pairs:
        changes.append("--batch_size 32, for more steps")
    if pairs >= SMALL and run.batch_size < 32:
        changes.append("--batch_size 64, for more wrong answers to learn from")
    if pairs >= LARGE_SET and epochs > 1 and trainer.check_val_every_n_epoch is not None:
        changes.append("--evaluation_steps 500, to see when one epoch is enough")
    yield said + ("; ".join(changes) or "the settings suit it")


def _steps(run: RunEstimate, module: EmbeddingModule) -> Iterator[str]:
    pairs = len(run.train)
    if run.batch_size > pairs:
        smaller = 2 ** max(1, min(5, int(math.log2(pairs / 4)))) if pairs > 8 else 2
        yield (
            f"a step takes {run.batch_size:,} pairs, more than the {pairs:,} there are, so that an "
            f"epoch is one step: --batch_size {smaller}"
        )
    if run.warmup > run.steps / 2:
        yield (
            f"warm-up of {run.warmup:,} steps is longer than half of the run's {run.steps:,}: "
            f"--warmup_steps auto (it takes {warmup_length(AUTO, run.steps)})"
        )


def _split(data: DataMeasures, run: RunEstimate, settings: EmbeddingDataModule) -> Iterator[str]:
    rows, sizes = len(data.used), np.unique(data.group, return_counts=True)[1]
    own = settings.validation_jsonl is not None
    if not own and sizes.max() > 0.3 * rows:
        yield (
            f"one group holds {sizes.max() / rows:.0%} of the rows, tied by a file, questions or "
            "answers: name smaller files (chapters, pages), or bring --validation_jsonl FILE"
        )
    if run.questions < 200:
        more = "--train_split 0.8 holds out more"
        if own or settings.train_split <= 0.8 or rows < 20:
            more = "more questions are needed"
        yield (
            f"held-out questions: {run.questions}, so a gain in nDCG@10 below about "
            f"{0.4 / math.sqrt(run.questions):.2f} can't be told from chance: {more}"
        )
    if run.held_out is not None and (leaks := _leaks(data, run.train, run.held_out)):
        yield (
            f"{leaks:,} held-out rows have a question or answer nearly the same as one that is "
            "trained on: the gain will look too good; give such rows one file_name"
        )


def _leaks(data: DataMeasures, train: np.ndarray, held_out: np.ndarray) -> int:
    columns = (data.texts.near_question, data.texts.near_answer)
    return int(np.any([np.isin(near[held_out], near[train]) for near in columns], axis=0).sum())


def _lengths(
    data: DataMeasures, module: EmbeddingModule, settings: EmbeddingDataModule
) -> Iterator[str]:
    limit, most = module.encoder.max_seq_length, max_positions(module.encoder.base.config)
    for name in ("questions", *target_names(settings.positive)):
        if (share := data.share_longer(name, limit)) <= 0.05:
            continue
        longer = [x for x in sorted({*LIMITS, most or 0}) if limit < x <= (most or x)]
        enough = [x for x in longer if data.share_longer(name, x) <= 0.05]
        said = f"{describe_truncation(limit, {name: share})}: "
        best = [*enough, *longer[-1:]][:1]
        if best and (left := data.share_longer(name, best[0])) < 0.8 * share:
            yield f"{said}--max_seq_length {best[0]} cuts {left:.1%}, and takes longer"
        elif name == "questions":
            yield f"{said}shorten them, or use a base model for longer texts"
        else:
            yield f"{said}split them into passages of fewer tokens, a row each"


def _languages(data: DataMeasures, module: EmbeddingModule) -> Iterator[str]:
    total = data.texts.languages.total()
    other = 1 - data.texts.languages["en"] / total
    pieces = len(module.encoder.tokenizer)
    if data.unknown > 0.01:
        yield (
            f"the base model's tokenizer does not know {data.unknown:.1%} of the tokens: --config "
            "configs/multilingual.yaml, or a model made for the language"
        )
    elif other > 0.1 and pieces < _ONE_LANGUAGE:
        yield (
            f"{other:.0%} of the rows are not in English, and the base model's vocabulary "
            f"({pieces:,} pieces) is one of a single language: --config configs/multilingual.yaml, "
            "unless that language is yours"
        )


def _labels(data: DataMeasures, module: EmbeddingModule) -> Iterator[str]:
    label = data.table.label
    if label is None:
        if module.loss.needs_labels:
            yield (
                f"no labels: {type(module.loss).__name__} draws wrong answers; --loss_function "
                "MultipleNegativesRankingLoss takes those of the batch, and mostly finds more"
            )
        return
    if not module.loss.needs_labels:
        loss = "Contrastive" if np.isin(label, (0, 1)).all() else "CosineSimilarity"
        low = int((label[data.used] < 0.5).sum())
        if low:
            yield (
                f"{low:,} rows with a label below 0.5 are not trained on: --loss_function "
                f"{loss}Loss uses them"
            )
