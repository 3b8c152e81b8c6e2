"""Ends a run whose loss, gradient norm or weights are NaN or infinite, without GPU waits."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from embedft.data.batches import TrainBatch
from embedft.data.datamodule import EmbeddingDataModule
from embedft.data.texts import pair_ids
from embedft.encoder.encoder import Encoder
from embedft.errors import InputError, RunFailedError
from embedft.tools.finite import all_finite


class StepValue(NamedTuple):
    """A scalar of a step; on a GPU it may still be computing.

    Attributes:
        name: For the message.
        step: Of the run, from 1.
        batch: Of this step.
        finite: () bool on the CPU, valid once ``done`` has happened.
        done: When it is valid; None if it is already.
    """

    name: str
    step: int
    batch: TrainBatch
    finite: Tensor
    done: torch.Event | None

    def is_finite(self) -> bool:
        """Waits for this value only, not for work that was queued after it."""
        if self.done is not None:
            self.done.synchronize()
        return bool(self.finite)


class NonFiniteWatch:
    """Checks the loss and gradient norm of each step.

    On a GPU it checks the previous value, which is computed by then, so that nothing waits.
    """

    def __init__(self) -> None:
        self._previous: StepValue | None = None

    def check(
        self, value: Tensor, name: str, step: int, batch: TrainBatch, data: EmbeddingDataModule
    ) -> None:
        """Checks the next value.

        Args:
            value: A scalar.
            name: For the message.
            step: Of the run, from 1.
            batch: Of this step.
            data: The rows of the batch.

        Raises:
            RunFailedError: The value, or on a GPU the previous one, is NaN or infinite. The message
                has the ids of the batch.
        """
        finite, done = value.detach().isfinite(), None
        if finite.device.type == "cuda":
            # Reading it from the device later would wait for all work queued until then.
            finite, done = finite.to("cpu", non_blocking=True), torch.Event(value.device)
            done.record()
        current = StepValue(name, step, batch, finite, done)
        checked = current if value.device.type == "cpu" else self._previous
        self._previous = current
        if checked is not None and not checked.is_finite():
            raise RunFailedError(_message(checked, data))


def _message(value: StepValue, data: EmbeddingDataModule) -> str:
    batch = value.batch
    try:
        names = pair_ids(data, data.train_batches(batch.epoch).plan[batch.batch_index])
        more = f" and {len(names) - 20} more" if len(names) > 20 else ""
        rows = f"rows with id: {', '.join(names[:20])}{more}"
    except InputError:
        rows = "rows without known ids, because the input file was changed"
    return (
        f"the {value.name} is NaN or infinite at step {value.step} (epoch {batch.epoch}, "
        f"batch {batch.batch_index}), {rows}; the last "
        "checkpoint is from before; try a lower --learning_rate or --precision 32-true, or look "
        "at these rows"
    )


def require_finite_weights(encoder: Encoder, step: int) -> None:
    """Refuses to save weights that are broken.

    Args:
        encoder: Its weights are about to be saved.
        step: Of the run, for the message.

    Raises:
        RunFailedError: A weight is NaN or infinite: the earlier checkpoint stays.
    """
    for name, weight in encoder.named_parameters():
        if not all_finite(weight):
            raise RunFailedError(
                f"weight {name} holds NaN or infinity at step {step}: nothing is saved, the last "
                "checkpoint is from before; try a lower --learning_rate, or --precision 32-true"
            )
