"""A callback that notes each consumed batch, and can kill its own process."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from embedft.data.batches import TrainBatch


class Recorder(Callback):
    """Appends epoch, batch index and rows of each batch to a file, one a rank.

    Args:
        path: The file; the rank is appended to its name.
        kill_after: Kill the process with SIGKILL after so many batches; 0 for never.
        fail_after: Raise an error after so many batches; 0 for never.
    """

    def __init__(self, path: str, kill_after: int = 0, fail_after: int = 0) -> None:
        self.path = path
        self.kill_after, self.fail_after = kill_after, fail_after
        self.seen = 0

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: TrainBatch,
        batch_idx: int,
    ) -> None:
        entry = [batch.epoch, batch.batch_index, batch.rows.tolist()]
        with Path(f"{self.path}.{trainer.global_rank}").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")
        self.seen += 1
        if self.seen == self.kill_after:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.seen == self.fail_after:
            raise RuntimeError("the test wants it so")


def recorded(path: Path, rank: int = 0) -> list[Any]:
    """What a rank noted."""
    lines = Path(f"{path}.{rank}").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]
