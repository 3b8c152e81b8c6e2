"""Callbacks that a run can't use, or that watch a metric which it does not have."""

from __future__ import annotations

from collections.abc import Iterable

from lightning.pytorch import Callback

from embedft.errors import InputError
from embedft.tools.text import did_you_mean
from embedft.training.evaluation_hooks import EvaluationHooks

_FREEZE = "layers are frozen for the whole run; use --model.freeze_layers"
_REFUSED = {
    "BackboneFinetuning": _FREEZE,
    "BaseFinetuning": _FREEZE,
    "BatchSizeFinder": (
        "the batch size decides how many in-batch negatives there are; use --batch_size, and "
        "--model.chunk_size 32 if memory is short"
    ),
    "GradientAccumulationScheduler": (
        "the learning rate is planned for equal steps; use --trainer.accumulate_grad_batches"
    ),
    "LearningRateFinder": ("it needs a schedule that it can replace; compare short runs instead"),
    "ModelPruning": (
        "it renames the weights that checkpoints keep; prune the exported model instead"
    ),
    "StochasticWeightAveraging": "its run could not be resumed; use EMAWeightAveraging",
    "Timer": "its settings can't be saved; use --trainer.max_time 00:08:00:00",
}
"""Lightning's callbacks that are refused, by class name, and what to use instead."""

_TRAIN_METRICS = ("loss", "in_batch_accuracy", "learning_rate", "grad_norm")


def check_callbacks(callbacks: Iterable[Callback]) -> None:
    """Refuses callbacks that would do nothing, give other weights, or prevent a resume.

    Args:
        callbacks: As they are given to the Trainer.

    Raises:
        InputError: There is one; the message says what to use instead.
    """
    for callback in callbacks:
        for ancestor in type(callback).__mro__:
            if reason := _REFUSED.get(ancestor.__name__):
                name = type(callback).__name__
                raise InputError(f"trainer.callbacks: {name} is not supported: {reason}")


def check_monitors(callbacks: Iterable[Callback], module: EvaluationHooks) -> None:
    """Refuses callbacks that monitor a metric which no evaluation logs.

    Args:
        callbacks: As they are given to the Trainer.
        module: Names the metrics.

    Raises:
        InputError: There is no metric of the monitored name.
    """
    known = [f"val/{name}" for name in module.metric_names()]
    known += [f"train/{name}" for name in _TRAIN_METRICS]
    for callback in callbacks:
        monitor = getattr(callback, "monitor", None)
        if isinstance(monitor, str) and monitor not in {*known, "step", "epoch"}:
            raise InputError(
                f"trainer.callbacks: {type(callback).__name__} monitors {monitor}, but there is no "
                f"such metric{did_you_mean(monitor, known, cutoff=0)}"
            )
