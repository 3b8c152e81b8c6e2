"""The files of a run: metrics line by line, progress, and what was measured when."""

from __future__ import annotations

import json
import logging
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException
from numpy.typing import NDArray

from embedft.data.batches import TrainBatch
from embedft.errors import EmbedftError
from embedft.evaluation.bootstrap import Interval, paired_bootstrap
from embedft.evaluation.query_results import QueryResults
from embedft.run.best import METRIC, not_significantly_worse
from embedft.run.tensorboard import add_layout
from embedft.tools.files import replacing_file, write_json

log = logging.getLogger(__name__)


StoredEvaluation = dict[str, Any]


class MetricsLog(Callback):
    """Keeps ``training_metrics.jsonl`` and ``training_progress.json`` under the output folder.

    It also remembers the evaluations of the base model, the best and the last weights; they travel
    in the checkpoints, so a resumed run knows them.

    Args:
        output_dir: Folder of the run.
    """

    def __init__(self, output_dir: str) -> None:
        self.folder = Path(output_dir)
        self.metrics_file = self.folder / "training_metrics.jsonl"
        self.progress_file = self.folder / "training_progress.json"
        self.evaluations: dict[str, StoredEvaluation] = {}
        self.weights_name = "last"
        """Which weights an evaluation is of."""
        self.query_results: dict[str, QueryResults] = {}
        """What was found for each held-out question, by the name of an evaluation."""
        self._top_Q: NDArray[np.float64] | None = None
        """nDCG@10 of each held-out question by the weights that found most so far."""
        self.started = time.time()
        self._since = time.perf_counter()
        self._pairs = 0
        self._tokens = 0
        self._loss: float | None = None

    @property
    def state_key(self) -> str:
        """Key in checkpoints."""
        return "RunFiles"  # kept by old checkpoints

    def state_dict(self) -> dict[str, Any]:
        """The evaluations so far."""
        findings = {name: found.state_dict() for name, found in self.query_results.items()}
        top = None if self._top_Q is None else torch.from_numpy(self._top_Q)
        return {"evaluations": self.evaluations, "findings": findings, "top": top}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up the evaluations of the run that is resumed; its best only where that lies."""
        self.evaluations = dict(state_dict["evaluations"])
        self.query_results = {
            name: QueryResults.from_state_dict(found)
            for name, found in state_dict.get("findings", {}).items()
        }
        if (top := state_dict.get("top")) is not None:
            self._top_Q = top.numpy()
        elif "best" in self.query_results:  # of an older run
            self._top_Q = self.query_results["best"].ndcg
        if not (self.folder / "checkpoints" / "best.ckpt").is_file():
            self.evaluations.pop("best", None)

    # training_metrics.jsonl

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens the metrics file: a resumed run drops the lines of steps that it does again."""
        self._since = time.perf_counter()
        self._step = trainer.global_step
        if not trainer.is_global_zero:
            return
        if not trainer.global_step:
            add_layout(trainer.loggers)
        elif self.metrics_file.exists():
            lines = self.metrics_file.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if _step_of(line) <= trainer.global_step]
            with replacing_file(self.metrics_file) as temporary:
                temporary.write_text("".join(kept), encoding="utf-8")

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: TrainBatch,
        batch_idx: int,
    ) -> None:
        """Counts pairs and tokens; every ``log_every_n_steps`` steps writes a line."""
        self._pairs += len(batch.pairs) * trainer.world_size
        self._tokens += len(batch.input_ids) * trainer.world_size
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if trainer.global_step == self._step or trainer.global_step % every:
            return  # inside a window of accumulation, or not yet
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
        """Keeps the time of an evaluation out of the training speed."""
        self._validation_began = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes what was measured: the base model before training, then the tuned one."""
        self._since += time.perf_counter() - self._validation_began
        measured: dict[str, float] = pl_module.last_evaluation  # type: ignore[assignment]
        step = trainer.global_step
        evaluation: StoredEvaluation = {"step": step, "epoch": trainer.current_epoch, **measured}
        values = {f"val/{name}": value for name, value in measured.items()}
        found: QueryResults = pl_module.last_query_results  # type: ignore[assignment]
        if trainer.sanity_checking:
            names = ["base"]
            for logger in trainer.loggers:
                logger.log_metrics(values, step=0)
        else:
            base = self.query_results.get("base")
            base_Q = base.ndcg if base is not None and base.task == found.task else None
            if base_Q is not None:
                gain = paired_bootstrap(base_Q, found.ndcg)
                evaluation["gain"] = gain._asdict()
                if self.weights_name == "last":
                    values |= self._log_gain(trainer, gain)
            names = [self.weights_name]
            if self.weights_name == "last" and self._is_best(found.ndcg, base_Q):
                names.append("best")
        self.evaluations |= dict.fromkeys(names, evaluation)
        self.query_results |= dict.fromkeys(names, found)
        if self.weights_name == "last":
            self._write_line(trainer, values)

    def _is_best(self, ndcg_Q: NDArray[np.float64], base_Q: NDArray[np.float64] | None) -> bool:
        top_Q = self._top_Q if "best" in self.evaluations else None
        if top_Q is None or len(top_Q) != len(ndcg_Q) or ndcg_Q.mean() >= top_Q.mean():
            self._top_Q = ndcg_Q
            return True
        return not_significantly_worse(top_Q, ndcg_Q, base_Q)

    def _log_gain(self, trainer: Trainer, gain: Interval) -> dict[str, float]:
        """How much more is found than by the base model; the name sorts before the others."""
        low, high = f"gain/{METRIC}_low", f"gain/{METRIC}_high"
        values = {f"gain/{METRIC}": gain.mean, low: gain.low, high: gain.high}
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
        with self.metrics_file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")

    # training_progress.json

    def begin(self, progress: dict[str, Any]) -> None:
        """Writes the progress file of a run that has begun and is not completed.

        Args:
            progress: ``base_model``, ``num_epochs``, ``train_examples``, ``eval_examples``.
        """
        self.started = time.time()
        self.progress = {
            "training_completed": False,
            "started_at": timestamp(),
            "completed_at": None,
            "duration_seconds": None,
            **progress,
            "final_model_path": None,
        }
        write_json(self.progress_file, self.progress)

    def end(self, **outcome: Any) -> None:
        """Updates the progress file when the run ends, whether it completed or failed."""
        self.progress |= {"duration_seconds": round(time.time() - self.started, 1), **outcome}
        write_json(self.progress_file, self.progress)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Notes the reason of a failure."""
        if trainer.is_global_zero and hasattr(self, "progress"):
            reason = _reason(exception)
            self.end(failed_at=timestamp(), failure=reason)
            if "--ckpt_path last" in reason:  # said by the last line that is printed
                return
            if (self.folder / "checkpoints" / "last.ckpt").is_file():
                log.error("stopped: %s; go on with --ckpt_path last", reason)


def _reason(exception: BaseException) -> str:
    """Why a run ended, in the user's words where it is no fault of the program's."""
    if isinstance(exception, EmbedftError):
        return str(exception)
    if isinstance(exception, KeyboardInterrupt | SIGTERMException):
        return "interrupted"
    return f"{type(exception).__name__}: {exception}".strip().rstrip(":")


def timestamp() -> str:
    """Now, in UTC, ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _step_of(line: str) -> int:
    """The step of a metrics line; a line that a crash cut off is dropped."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return 2**62
