"""An estimate of a run: its split, its steps, and its time from a few timed batches."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.data import DataLoader

from embedft.data.batches import EvalBatch, TextBatches, TrainBatch
from embedft.data.datamodule import EmbeddingDataModule
from embedft.data.ties import SharedText
from embedft.evaluation.answer_fit import AnswerFit
from embedft.inference.answer_fit import sample_answer_fit
from embedft.recipe import warmup_length
from embedft.run.forgetting import check_forgetting
from embedft.table.keys import Ints
from embedft.training.module import EmbeddingModule
from embedft.training.optimizer import steps_of_run
from embedft.training.trainer import EmbedftTrainer

_BATCHES = 8  # timed at most, of training and of embedding
_SECONDS = 20.0  # timed at most, for each of the two


@dataclass(frozen=True, slots=True)
class RunEstimate:
    """What a fit with these settings would do on this machine.

    Attributes:
        train: (rows,) rows of the file that are used for training.
        held_out: (rows,) rows that are held out; None if they are in a separate file.
        shared: Texts that many files share and that therefore tie no rows.
        not_evaluated: (rows,) held-out rows with such a text.
        answer_fit: How well the answers of sampled rows fit their questions by the base model;
            None if there are too few rows.
        questions: Number of held-out questions.
        groups: Number of groups (files, or rows tied by a text) that they come from.
        corpus: Number of distinct answers that they are searched in.
        batch_size: Pairs per step, over all devices and accumulated batches.
        devices: Number of devices.
        steps: Steps of the run.
        warmup: Steps of warm-up among them.
        train_seconds: Time of the steps, in seconds.
        eval_seconds: Time of the evaluations, in seconds.
        evaluations: Number of evaluations, those for ``base_share`` included.
        device: Device and precision that were timed.
    """

    train: Ints
    held_out: Ints | None
    shared: tuple[SharedText, ...]
    not_evaluated: Ints
    answer_fit: AnswerFit | None
    questions: int
    groups: int
    corpus: int
    batch_size: int
    devices: int
    steps: int
    warmup: int
    train_seconds: float
    eval_seconds: float
    evaluations: int
    device: str

    @property
    def max_files(self) -> int | None:
        """The number of files above which a text ties no rows; None if all texts tie rows."""
        return self.shared[0].max_files if self.shared else None


def estimate_run(
    trainer: Trainer, module: EmbeddingModule, data: EmbeddingDataModule
) -> RunEstimate:
    """Splits the data as a fit would, plans its batches, and times a few of them.

    Afterwards the module has taken a few training steps and belongs to another trainer.

    Raises:
        InputError: A fit would refuse the data.
    """
    data.load(module.encoder, module.loss.needs_labels)
    check_forgetting(data, module.encoder)
    data.trainer = trainer  # as in a fit: it knows how many devices share a batch
    steps = steps_of_run(trainer, data)
    plan = data.train_batches(0).plan
    batches = len(plan)
    accumulated: int = trainer.accumulate_grad_batches
    rows = data.pairs
    tokens = data.tokens.lengths(rows.anchor) + data.tokens.lengths(rows.positive)
    negatives = (
        data.training.n_drawn_negatives + data.training.n_hard_negatives
    ) * data.tokens.lengths(rows.positive)
    planned = int((tokens + negatives)[plan.pairs].sum())
    share = planned / batches / trainer.world_size  # tokens a batch and device
    evaluations = _evaluations(trainer, module, batches, steps)
    to_embed = int(data.tokens.lengths(data.task.texts).sum()) / trainer.world_size
    fit = sample_answer_fit(data, module.encoder, trainer)
    train_speed, eval_speed, device = _speeds(trainer, module, data)
    return RunEstimate(
        train=np.unique(rows.source_row),
        held_out=np.unique(data.fit_data.searched_pairs[1].source_row)
        if data.validation_jsonl is None
        else None,
        shared=data.fit_data.shared,
        not_evaluated=data.fit_data.not_evaluated,
        answer_fit=fit,
        questions=len(data.task.queries),
        groups=len(np.unique(data.task.groups)),
        corpus=len(data.task.corpus),
        batch_size=data.batch_size * trainer.world_size * accumulated,
        devices=trainer.world_size,
        steps=steps,
        warmup=warmup_length(module.warmup_steps, steps),
        train_seconds=steps * accumulated * share / train_speed,
        eval_seconds=evaluations * to_embed / eval_speed,
        evaluations=evaluations,
        device=f"{device}, {trainer.precision}",
    )


def _evaluations(trainer: Any, module: EmbeddingModule, batches: int, steps: int) -> int:
    """Evaluations of a run: the base model, those during the run, one interpolation.

    There are up to three interpolations with the base model; the first mostly suffices.
    """
    batches_in_all = steps * trainer.accumulate_grad_batches
    every = getattr(trainer, "val_check_interval", batches_in_all)  # else by the clock
    if isinstance(every, float):  # a share of an epoch
        every = max(1, int(batches * every))
    within = batches_in_all // every
    if trainer.check_val_every_n_epoch is not None:
        within //= trainer.check_val_every_n_epoch
    return 1 + max(1, int(within)) + int(module.base_share != 0)


def _speeds(
    trainer: Trainer, module: EmbeddingModule, data: EmbeddingDataModule
) -> tuple[float, float, str]:
    """Tokens per second in training and in embedding on one device, and the device's name."""
    clock = _Clock()
    device = trainer.strategy.root_device
    timing_trainer = EmbedftTrainer(
        accelerator=device.type,
        devices=1,
        precision=trainer.precision,
        max_epochs=_BATCHES,
        accumulate_grad_batches=trainer.accumulate_grad_batches,
        gradient_clip_val=trainer.gradient_clip_val,
        reload_dataloaders_every_n_epochs=1,
        limit_val_batches=0,
        callbacks=[clock],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    mines, data.training.mines = data.training.mines, False  # it would embed all texts first
    timing_trainer.fit(module, datamodule=data)
    data.training.mines = mines
    train_speed = clock.tokens_per_second()
    texts = data.task.texts
    few = int(_SECONDS * train_speed / data.tokens.lengths(texts).mean())  # embedding is faster
    count = max(1, min(few, _BATCHES * data.eval_batch_size))
    texts = np.random.default_rng(0).choice(texts, count)  # with repeats: full batches
    batches = TextBatches(data.tokens, texts, data.eval_batch_size)
    loader: DataLoader[EvalBatch] = DataLoader(batches, batch_size=None)
    timing_trainer.datamodule = None  # type: ignore[attr-defined]  # else it is reloaded
    timing_trainer.predict(module, loader, return_predictions=False)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return train_speed, clock.tokens_per_second(), name


class _Clock(Callback):
    """Times batches, without the first one (in which kernels are compiled) if there are more."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.times: list[float] = []

    def tokens_per_second(self) -> float:
        """Speed of the batches that were timed last."""
        skipped = 1 if len(self.tokens) > 1 else 0
        seconds = self.times[-1] - self.times[skipped]
        return sum(self.tokens[skipped:]) / max(seconds, 1e-9)

    def _start(self) -> None:
        self.tokens, self.times = [], [time.perf_counter()]

    def _stop(self, trainer: Trainer, module: LightningModule, batch: Any) -> None:
        if module.device.type == "cuda":
            torch.cuda.synchronize(module.device)
        self.tokens.append(len(batch.input_ids))
        self.times.append(time.perf_counter())
        if len(self.tokens) >= _BATCHES or self.times[-1] - self.times[0] > _SECONDS:
            trainer.should_stop = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: TrainBatch,
        batch_idx: int,
    ) -> None:
        self._stop(trainer, pl_module, batch)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start()

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: EvalBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._stop(trainer, pl_module, batch)
