"""``training_metrics.jsonl`` and ``training_progress.json``, and when a run evaluates what."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException

from embedft.data.batches import TrainBatch
from embedft.data.datamodule import EmbeddingDataModule
from embedft.errors import EmbedftError
from embedft.evaluation.metrics import PRIMARY
from embedft.evaluation.query_results import QueryResults
from embedft.run.checkpoints import is_best_checkpoint
from embedft.run.evaluations import EVALUATIONS_KEY, RunEvaluations
from embedft.run.folder import RunFolder
from embedft.run.tensorboard import add_layout
from embedft.tools.files import naming_file, replacing_file, write_json

log = logging.getLogger(__name__)


class MetricsLog(Callback):
    """Writes metrics line by line and the progress of a run; records its evaluations.

    Args:
        folder: Of the run.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.evaluations = RunEvaluations()
        """Travels in the checkpoints, so that a resumed run knows them."""
        self._paused = False
        self._started = time.time()
        self._since = time.perf_counter()
        self._pairs = 0
        self._tokens = 0
        self._loss: float | None = None

    @property
    def state_key(self) -> str:
        """Key in checkpoints."""
        return EVALUATIONS_KEY

    def state_dict(self) -> dict[str, Any]:
        """The evaluations so far."""
        return self.evaluations.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores a resumed run's evaluations; the best only if ``best.ckpt`` is of it."""
        best = state_dict["evaluations"].get("best")
        has_best = best is not None and is_best_checkpoint(self.folder.best_checkpoint, best)
        self.evaluations.load_state_dict(state_dict, has_best)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Neither records nor writes the evaluations made inside this context."""
        self._paused = True
        try:
            yield
        finally:
            self._paused = False

    # training_metrics.jsonl

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens the metrics file: a resumed run drops the lines of steps that it repeats."""
        self._since = time.perf_counter()
        self._step = trainer.global_step
        if not trainer.is_global_zero:
            return
        path = self.folder.training_metrics
        if not trainer.global_step:
            add_layout(trainer.loggers)
        elif path.exists():
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if _step_of(line) <= trainer.global_step]
            with replacing_file(path) as temporary:
                temporary.write_text("".join(kept), encoding="utf-8")

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: TrainBatch,
        batch_idx: int,
    ) -> None:
        """Counts pairs and tokens; writes a line every ``log_every_n_steps`` steps."""
        self._pairs += len(batch.pairs) * trainer.world_size
        self._tokens += len(batch.input_ids) * trainer.world_size
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if trainer.global_step == self._step or trainer.global_step % every:
            return  # the batch is accumulated, or no line is due
        self._step = trainer.global_step
        now = time.perf_counter()
        seconds, self._since = now - self._since, now
        speed = {
            "train/pairs_per_second": self._pairs / seconds,
            "train/tokens_per_second": self._tokens / seconds,
        }
        self._pairs = self._tokens = 0
        for logger in trainer.loggers:
            logger.log_metrics(speed, step=trainer.global_step)
        logged = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("train/")
        }
        self._loss = logged.get("train/loss")
        self._write_line(trainer, logged | speed)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts to time the evaluation: it does not count for the training speed."""
        self._validation_began = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Records an evaluation: the base model's before training, then the latest weights'."""
        self._since += time.perf_counter() - self._validation_began
        if self._paused:
            return
        metrics: dict[str, float] = pl_module.last_evaluation  # type: ignore[assignment]
        results: QueryResults = pl_module.last_query_results  # type: ignore[assignment]
        values = {f"val/{name}": value for name, value in metrics.items()}
        data: EmbeddingDataModule = pl_module.data  # type: ignore[assignment]
        self.evaluations.groups_Q = data.task.groups
        step, epoch = trainer.global_step, trainer.current_epoch
        if trainer.sanity_checking:
            # An earlier evaluation of the base model must not give it a gain over itself.
            self.evaluations.add_base({"step": step, "epoch": epoch, **metrics}, results)
            for logger in trainer.loggers:
                logger.log_metrics(values, step=0)
        else:
            entry = self.evaluations.entry(step, epoch, metrics, results)
            self.evaluations.add_last(entry, results)
            if (gain := entry.get("gain")) is not None:
                values |= self._log_gain(trainer, gain)
        self._write_line(trainer, values)

    def _log_gain(self, trainer: Trainer, gain: dict[str, float]) -> dict[str, float]:
        """Logs the gain in nDCG@10; its prefix puts it before the other metrics in TensorBoard."""
        values = {
            f"gain/{PRIMARY}": gain["mean"],
            f"gain/{PRIMARY}_low": gain["low"],
            f"gain/{PRIMARY}_high": gain["high"],
        }
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step)
        return values

    def _write_line(self, trainer: Trainer, values: dict[str, float]) -> None:
        if not trainer.is_global_zero:
            return
        line = {
            "timestamp": timestamp(),
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "loss": self._loss,
            **values,
        }
        path = self.folder.training_metrics
        with naming_file(path), path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")

    # training_progress.json

    def begin(self, progress: dict[str, Any]) -> None:
        """Writes the progress file of a run that starts.

        Args:
            progress: ``base_model``, ``num_epochs``, ``train_examples``, ``eval_examples``.
        """
        self._started = time.time()
        self.progress = {
            "training_completed": False,
            "started_at": timestamp(),
            "completed_at": None,
            "duration_seconds": None,
            **progress,
            "final_model_path": None,
        }
        write_json(self.folder.training_progress, self.progress)

    def end(self, **outcome: Any) -> None:
        """Updates the progress file when the run ends, whether it completed or failed."""
        self.progress |= {"duration_seconds": round(time.time() - self._started, 1), **outcome}
        write_json(self.folder.training_progress, self.progress)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Notes the reason of a failure."""
        if trainer.is_global_zero and hasattr(self, "progress"):
            reason = _reason(exception)
            with suppress(OSError, EmbedftError):  # if the disk is full, that is the failure
                self.end(failed_at=timestamp(), failure=reason)
            if "--ckpt_path last" in reason:  # the last line printed says how to resume
                return
            if self.folder.last_checkpoint.is_file():
                log.error("stopped: %s; resume with --ckpt_path last", reason)


def _reason(exception: BaseException) -> str:
    """Why a run ended; without the name of a class if it is not the program's fault."""
    if isinstance(exception, EmbedftError):
        return str(exception)
    if isinstance(exception, KeyboardInterrupt | SIGTERMException):
        return "interrupted"
    return f"{type(exception).__name__}: {exception}".strip().rstrip(":")


def timestamp() -> str:
    """The current time in UTC, ISO 8601, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _step_of(line: str) -> int:
    """The step of a metrics line; very large for a line that a crash cut off, so it is dropped."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return 2**62
