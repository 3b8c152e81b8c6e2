"""The output folder of a run: the path of each of its files."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.utilities import rank_zero_only

from embedft.encoder.checkpoint import newest_checkpoint, read_checkpoint
from embedft.errors import InputError
from embedft.tools.files import numbered_files

DEFAULT_OUTPUT_DIR = "out"


class RunFolder:
    """Paths of one output folder.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.checkpoints = path / "checkpoints"
        self.last_checkpoint = self.checkpoints / "last.ckpt"
        self.best_checkpoint = self.checkpoints / "best.ckpt"
        self.logs = path / "logs"
        self.log_file = self.logs / "embedding_finetuning.log"
        self.final_model = path / "final_model"
        self.best_model = path / "best_model"
        self.metrics = path / "metrics.json"
        self.metrics_by_question = path / "metrics_by_question.jsonl"
        self.training_metrics = path / "training_metrics.jsonl"
        self.training_progress = path / "training_progress.json"
        self.report = path / "report.html"
        self.test_report = path / "test_report.html"
        self.lock_file = path / ".lock"

    def step_checkpoint(self, step: int) -> Path:
        """The path of an earlier checkpoint, the former ``last.ckpt``."""
        return self.checkpoints / f"step-{step}.ckpt"

    def step_checkpoints(self) -> dict[int, Path]:
        """The earlier checkpoints that exist, by step."""
        return numbered_files(self.checkpoints, "step-", ".ckpt")

    def _requeue_checkpoints(self) -> dict[int, Path]:
        """What Lightning saved before SLURM requeued the job."""
        return numbered_files(self.path, "hpc_ckpt_", ".ckpt")

    def files(self) -> list[Path]:
        """The files of a run that exist, each known by its name: ``--overwrite`` deletes no others.

        ``training_progress.json`` is not among them: a new run replaces it, so that the folder is
        known for a run's at any moment.
        """
        paths = [
            *self._named(),
            *self.step_checkpoints().values(),
            *self.logs.glob("events.out.tfevents.*"),
            *self._requeue_checkpoints().values(),
        ]
        return [path for path in paths if os.path.lexists(path)]

    def _named(self) -> list[Path]:
        """The files whose names do not depend on the run, in the order of their importance."""
        logs = self.logs
        return [
            self.last_checkpoint,
            self.best_checkpoint,
            self.log_file,
            *(logs / name for name in ("projector_config.pbtxt", "hparams.yaml", "00000")),
            self.final_model,
            self.best_model,
            self.config,
            self.metrics,
            self.metrics_by_question,
            self.report,
            self.test_report,
            self.training_metrics,
        ]

    def half_written(self) -> list[Path]:
        """What a killed run left under a temporary name.

        Not recursive: the folder may contain other runs.
        """
        files = [*self._named(), self.training_progress]
        return [left for file in files for left in file.parent.glob(f".{file.name}.writing-*")]

    def earlier_models(self, model: Path) -> list[Path]:
        """What is left of an exported model if the run was killed while it replaced it."""
        return list(self.path.glob(f".{model.name}.earlier-*"))

    def holds_run(self) -> bool:
        """Whether a run of embedft began to write into this folder: it says so first of all."""
        try:
            progress = json.loads(self.training_progress.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return False
        return isinstance(progress, dict) and "training_completed" in progress

    def what_next(self) -> str:
        """What to do after a signal that stopped a run outside of its steps."""
        if self.last_checkpoint.is_file():
            return "what was saved before is kept; resume with --ckpt_path last"
        return "before there was anything to save"

    def read_checkpoint(self, name: str) -> tuple[Path, dict[str, Any]]:
        """Reads ``best``, ``last`` or a path; if ``last`` is damaged, the newest good checkpoint.

        Raises:
            InputError: There is no such file, or no good one.
        """
        if name == "last":
            return newest_checkpoint(self.last_checkpoint)
        path = self.best_checkpoint if name == "best" else Path(name)
        return path, read_checkpoint(path)

    def requeued(self) -> Path | None:
        """The newest checkpoint of the run if SLURM requeued this job, else None."""
        saved = self._requeue_checkpoints()
        starts = os.environ.get("SLURM_RESTART_COUNT", "0")
        if not saved or not SLURMEnvironment.detect() or starts == "0":
            return None
        candidates = [saved[max(saved)]]
        if self.last_checkpoint.is_file():  # newer if the job continued for a while
            candidates.append(self.last_checkpoint)
        return max(candidates, key=lambda path: path.stat().st_mtime_ns)

    def delete_requeue_checkpoints(self) -> None:
        """Deletes what was saved for a requeued job: Lightning would load it in evaluations."""
        for path in self._requeue_checkpoints().values():
            path.unlink(missing_ok=True)


def check_writable(path: Path, flag: str) -> None:
    """Checks that files can be written into a folder, or that the folder can be made.

    Args:
        path: The folder.
        flag: The option that named it, for the message.

    Raises:
        InputError: They can't be.
    """
    if rank_zero_only.rank:  # only the first rank writes, and it may have begun
        return
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise InputError(
            f"{path}: can't be written: {error.strerror or error}; give another {flag}"
        ) from None
    finally:
        for folder in missing:  # a check leaves nothing behind
            with suppress(OSError):  # another run may have started in it meanwhile
                folder.rmdir()
