"""Whether a value of a step is finite, found out without a wait for the device."""

from __future__ import annotations

import torch
from torch import Tensor

from embedft.data.batches import TrainBatch


class Noted:
    """A value of a step that is to be looked at, and how it came to be.

    Args:
        value: A scalar, just computed or, on a GPU, about to be.
        name: What it is.
        step: Of the run, from 1.
        batch: Of this step.
    """

    def __init__(self, value: Tensor, name: str, step: int, batch: TrainBatch) -> None:
        self.name, self.step, self.batch = name, step, batch
        finite = value.detach().isfinite()
        self._done: torch.Event | None = None
        if finite.device.type == "cuda":
            # Reading it from the device later would wait for all that was queued until then.
            finite = finite.to("cpu", non_blocking=True)
            self._done = torch.Event(value.device)
            self._done.record()
        self._finite = finite

    def is_finite(self) -> bool:
        """Waits for the value, not for what was queued after it."""
        if self._done is not None:
            self._done.synchronize()
        return bool(self._finite)
