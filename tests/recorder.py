"""A callback that records every batch and, if a test asks for it, kills its process."""

from __future__ import annotations

import ctypes
import io
import json
import os
import resource
import sys
import time
from pathlib import Path
from threading import Thread
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from embedft.cli.main import main
from embedft.data.batches import TrainBatch


class Recorder(Callback):
    """Appends ``[epoch, batch, rows]`` of each training batch to ``path`` + rank.

    Args:
        path: Start of the file's name.
        kill: When to kill the process: ``batch:4`` after 4 batches, ``validation:2`` in the second
            evaluation of the fit, ``saving:3`` while the third checkpoint is written. Four more make
            trouble instead: ``nan:4`` sets weights to NaN before the fourth batch, ``full:4`` leaves
            no space for a checkpoint after it, ``memory:2`` asks for more memory than there is,
            ``busy:2`` sends the signal twice during a long call. Empty: never.
        with_signal: Number of the signal that kills.
        rank: Rank of the process to kill.
        fail_after: Number of batches after which to raise an error; 0 for never.
    """

    def __init__(
        self,
        path: str,
        kill: str = "",
        with_signal: int = 9,
        rank: int = 0,
        fail_after: int = 0,
    ) -> None:
        self.path = path
        self.event, _, count = kill.partition(":")
        self.count = int(count or 0)
        self.with_signal, self.rank = with_signal, rank
        self.fail_after = fail_after
        self.seen = {"batch": 0, "validation": 0, "saving": 0, "nan": 0, "full": 0, "memory": 0}
        self.seen |= {"busy": 0, "sanity": 0}

    def _reached(self, trainer: Trainer, event: str) -> bool:
        """Counts an event; whether it is the one to act on."""
        self.seen[event] += 1
        reached = self.event == event and self.seen[event] == self.count
        return reached and trainer.global_rank == self.rank

    def _kill(self) -> None:
        os.kill(os.getpid(), self.with_signal)

    def _kill_twice(self) -> None:
        for _ in range(2):
            self._kill()
            time.sleep(0.5)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.event != "saving":
            return
        save = torch.save

        def half_a_save(checkpoint: Any, path: Path) -> None:
            if not self._reached(trainer, "saving"):
                save(checkpoint, path)
                return
            whole = io.BytesIO()
            save(checkpoint, whole)
            Path(path).write_bytes(whole.getvalue()[: whole.tell() // 2])
            self._kill()

        torch.save = half_a_save  # type: ignore[assignment]

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: TrainBatch, batch_idx: int
    ) -> None:
        if self._reached(trainer, "nan"):
            next(pl_module.parameters()).data.fill_(torch.nan)
        if self._reached(trainer, "memory"):
            torch.empty(1 << 55)
        if self._reached(trainer, "busy"):
            # One call into C, during which Python runs no signal handler; torch has such calls.
            Thread(target=self._kill_twice, daemon=True).start()
            ctypes.CDLL(None).usleep(60_000_000)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: TrainBatch,
        batch_idx: int,
    ) -> None:
        entry = [batch.epoch, batch.batch_index, batch.pairs.tolist()]
        with Path(f"{self.path}.{trainer.global_rank}").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")
        if self._reached(trainer, "batch"):
            self._kill()
        if self._reached(trainer, "full"):
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        if self.seen["batch"] == self.fail_after:
            raise RuntimeError("the test wants it so")

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._reached(trainer, "sanity" if trainer.sanity_checking else "validation"):
            self._kill()


class Gradients(Callback):
    """Writes the gradients of every step, as the optimiser gets them, to the file ``path``.

    Then it ends the run before a model is exported or a report is written.

    Args:
        path: File to write.
        negatives: Number of negatives to draw for each pair, whatever the loss.
    """

    def __init__(self, path: str, negatives: int = 0) -> None:
        self.path = path
        self.negatives = negatives
        self.steps: list[dict[str, torch.Tensor]] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.negatives:
            trainer.datamodule.training.n_drawn_negatives = self.negatives  # type: ignore[attr-defined]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.world_size > 1:  # averaged twice, the gradient would be the same
            left_out = trainer.strategy.model.parameters_to_ignore  # type: ignore[union-attr]
            assert left_out == {"encoder.backbone.embeddings.word_embeddings.weight"}

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Any
    ) -> None:
        self.steps.append(
            {
                name: weight.grad.clone()
                for name, weight in pl_module.named_parameters()
                if weight.grad is not None
            }
        )

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            torch.save(self.steps, self.path)
        sys.exit()


def run_for_gradients(arguments: list[str]) -> None:
    """Runs a command line that ``Gradients`` ends; one that fails raises SystemExit."""
    try:
        main(arguments)
    except SystemExit as ended:
        if ended.code:
            raise


def recorded(path: Path, rank: int = 0) -> list[Any]:
    """What a rank recorded."""
    lines = Path(f"{path}.{rank}").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]
