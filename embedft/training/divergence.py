"""Ends a run whose numbers are NaN or infinite, without a wait for the device."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from embedft.data.batches import TrainBatch
from embedft.data.datamodule import EmbeddingDataModule
from embedft.data.texts import ids_of
from embedft.encoder.encoder import Encoder
from embedft.errors import InputError, RunFailedError
from embedft.tools.finite import all_finite


class StepValue(NamedTuple):
    """A scalar of a step, just computed or, on a GPU, about to be.

    Attributes:
        name: What it is.
        step: Of the run, from 1.
        batch: Of this step.
        finite: () bool on the CPU, to be read once ``done`` is.
        done: When it is there; None where it is already.
    """

    name: str
    step: int
    batch: TrainBatch
    finite: Tensor
    done: torch.Event | None

    def is_finite(self) -> bool:
        """Waits for the value, not for what was queued after it."""
        if self.done is not None:
            self.done.synchronize()
        return bool(self.finite)


class NonFiniteWatch:
    """Looks at the loss and gradient norm of each step.

    A GPU is not waited for: there it is the value before that is looked at, long since done.
    """

    def __init__(self) -> None:
        self._before: StepValue | None = None

    def check(
        self, value: Tensor, name: str, step: int, batch: TrainBatch, data: EmbeddingDataModule
    ) -> None:
        """Takes the next value.

        Args:
            value: A scalar.
            name: What it is.
            step: Of the run, from 1.
            batch: Of this step.
            data: The rows of the batch.

        Raises:
            RunFailedError: It, or on a GPU the one before, is NaN or infinite; with the ids of the
                batch.
        """
        finite, done = value.detach().isfinite(), None
        if finite.device.type == "cuda":
            # Reading it from the device later would wait for all that was queued until then.
            finite, done = finite.to("cpu", non_blocking=True), torch.Event(value.device)
            done.record()
        now = StepValue(name, step, batch, finite, done)
        looked_at = now if value.device.type == "cpu" else self._before
        self._before = now
        if looked_at is not None and not looked_at.is_finite():
            raise RunFailedError(_in_words(looked_at, data))


def _in_words(value: StepValue, data: EmbeddingDataModule) -> str:
    batch = value.batch
    try:
        names = ids_of(data, data.train_batches(batch.epoch).plan[batch.batch_index])
        more = f" and {len(names) - 20} more" if len(names) > 20 else ""
        rows = f"rows with id: {', '.join(names[:20])}{more}"
    except InputError:
        rows = "rows that can't be named, since the file was changed"
    return (
        f"the {value.name} is NaN or infinite at step {value.step} (epoch {batch.epoch}, "
        f"batch {batch.batch_index}), {rows}; the last "
        "checkpoint is from before; try a lower --learning_rate, --precision 32-true, or look "
        "at these rows"
    )


def require_finite_weights(encoder: Encoder, step: int) -> None:
    """Before they are saved.

    Raises:
        RunFailedError: One is NaN or infinite: the earlier checkpoint stays.
    """
    for name, weight in encoder.named_parameters():
        if not all_finite(weight):
            raise RunFailedError(
                f"weight {name} holds NaN or infinity at step {step}: nothing is saved, the last "
                "checkpoint is from before; try a lower --learning_rate, or --precision 32-true"
            )
