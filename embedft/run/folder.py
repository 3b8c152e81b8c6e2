"""The output folder of a run: the path of each file, and who may write into it."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.utilities import rank_zero_only

from embedft.encoder.checkpoint import newest_checkpoint, read_checkpoint
from embedft.errors import InputError
from embedft.tools.files import numbered_files

DEFAULT_OUTPUT_DIR = "out"


class RunFolder:
    """Paths and rules of one output folder.

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
        self._lock = FileLock(path / ".lock")

    def step_checkpoint(self, step: int) -> Path:
        """The path of an earlier checkpoint, the former ``last.ckpt``."""
        return self.checkpoints / f"step-{step}.ckpt"

    def step_checkpoints(self) -> dict[int, Path]:
        """The earlier checkpoints that exist, by step."""
        return numbered_files(self.checkpoints, "step-", ".ckpt")

    def _requeue_checkpoints(self) -> dict[int, Path]:
        """What Lightning saved before SLURM requeued the job."""
        return numbered_files(self.path, "hpc_ckpt_", ".ckpt")

    def _run_files(self) -> list[Path]:
        """The files of a run that exist: ``--overwrite`` deletes these and nothing else."""
        paths = [
            self.checkpoints,
            self.logs,
            self.final_model,
            self.best_model,
            self.config,
            self.metrics,
            self.metrics_by_question,
            self.report,
            self.test_report,
            self.training_metrics,
            self.training_progress,
            *self._requeue_checkpoints().values(),
        ]
        return [path for path in paths if os.path.lexists(path)]

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

    def check_free(self, ckpt_path: str | None, overwrite: bool, base_model: str) -> None:
        """Refuses a folder that holds another run, or that can't be written.

        Args:
            ckpt_path: The checkpoint to resume from; None for a new run.
            overwrite: Whether the files of an earlier run will be deleted.
            base_model: Must not be among these files.

        Raises:
            InputError: The folder may not be used.
        """
        if rank_zero_only.rank:  # the first rank has decided, and may have begun to write
            return
        if self.path.is_file():
            raise InputError(f"{self.path}: is a file; give a folder as --output_dir")
        used = [path.name for path in self._run_files()]
        if used and ckpt_path is None and not overwrite:
            raise InputError(
                f"{self.path}: holds another run ({', '.join(used[:3])}); resume it with "
                "--ckpt_path last, replace it with --overwrite, or give another --output_dir"
            )
        for path in self._run_files() if ckpt_path is None else ():
            if Path(base_model).resolve().is_relative_to(path.resolve()):
                raise InputError(
                    f"base_model {base_model}: is in {path}, which --overwrite deletes; give "
                    "another --output_dir"
                )
        check_writable(self.path, "--output_dir")

    def clear(self, overwrite: bool) -> None:
        """Deletes the files of an earlier run if ``overwrite`` says so."""
        for path in self._run_files() if overwrite else ():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def lock(self) -> None:
        """Keeps other runs out until :meth:`unlock` or the end of this process.

        Raises:
            InputError: Another run is writing into the folder.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            raise InputError(
                f"{self.path}: another run is writing into it; wait until it ends, or give another "
                "--output_dir"
            ) from None

    def unlock(self) -> None:
        """Lets other runs in."""
        self._lock.release()

    def make(self) -> None:
        """Makes the folders of a run; deletes what a killed run left half-written."""
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(exist_ok=True)
        # Not recursive: the output folder may contain other runs.
        for folder in (self.path, self.checkpoints, self.logs):
            for leftover in folder.glob(".*.writing-*"):
                if leftover.is_dir():
                    shutil.rmtree(leftover)
                else:
                    leftover.unlink(missing_ok=True)


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
