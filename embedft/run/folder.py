"""The output folder of a run: where each file lies, and who may write into it."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from embedft.encoder.checkpoint import newest_checkpoint, read_checkpoint
from embedft.errors import InputError
from embedft.run.tensorboard import RunTensorBoard
from embedft.tools.files import numbered_files

DEFAULT_OUTPUT_DIR = "out"

# What a run writes, and so what --overwrite deletes; nothing else in the folder is touched.
RUN_FILES = (
    "checkpoints",
    "logs",
    "final_model",
    "best_model",
    "config.yaml",
    "metrics.json",
    "metrics_by_question.jsonl",
    "report.html",
    "test_report.html",
    "training_metrics.jsonl",
    "training_progress.json",
    "hpc_ckpt_*.ckpt",
)


class RunFolder:
    """Paths and rules of one output folder.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.final_model = path / "final_model"
        self.best_model = path / "best_model"
        self.metrics = path / "metrics.json"
        self.metrics_by_question = path / "metrics_by_question.jsonl"
        self.report = path / "report.html"
        self.test_report = path / "test_report.html"
        self.log_file = path / "logs" / "embedding_finetuning.log"
        self._lock = FileLock(path / ".lock")

    def read_checkpoint(self, name: str) -> tuple[Path, dict[str, Any]]:
        """What ``best``, ``last`` or a path means; ``last`` makes do with an earlier one.

        Raises:
            InputError: There is no such file, or no good one.
        """
        if name == "last":
            return newest_checkpoint(self.checkpoints / "last.ckpt")
        path = self.checkpoints / "best.ckpt" if name == "best" else Path(name)
        return path, read_checkpoint(path)

    def requeued(self) -> Path | None:
        """The newest checkpoint of a run that SLURM requeued, if this job is such a one."""
        saved = numbered_files(self.path, "hpc_ckpt_", ".ckpt")
        starts = os.environ.get("SLURM_RESTART_COUNT", "0")
        if not saved or not SLURMEnvironment.detect() or starts == "0":
            return None
        last = self.checkpoints / "last.ckpt"  # newer where the job went on for a while
        found = [saved[max(saved)], *([last] if last.is_file() else [])]
        return max(found, key=lambda path: path.stat().st_mtime_ns)

    def forget_requeued(self) -> None:
        """Deletes what was saved for a requeued job, which Lightning would measure as well."""
        for path in numbered_files(self.path, "hpc_ckpt_", ".ckpt").values():
            path.unlink(missing_ok=True)

    def check_free(self, ckpt_path: str | None, overwrite: bool, base_model: str) -> None:
        """Refuses a folder that holds another run, or that can't be written.

        Args:
            ckpt_path: The run in it is resumed.
            overwrite: The run in it is to be deleted.
            base_model: Which must not be a part of that.

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
                f"{self.path}: holds another run ({', '.join(used[:3])}); go on with it by "
                "--ckpt_path last, start anew by --overwrite, or give another --output_dir"
            )
        for path in self._run_files() if ckpt_path is None else ():
            if Path(base_model).resolve().is_relative_to(path.resolve()):
                raise InputError(
                    f"base_model {base_model}: lies in {path}, which --overwrite deletes; give "
                    "another --output_dir"
                )
        check_writable(self.path, "--output_dir")

    def _run_files(self) -> list[Path]:
        return [path for name in RUN_FILES for path in sorted(self.path.glob(name))]

    def clear(self, overwrite: bool) -> None:
        """Deletes the files of an earlier run, if told to."""
        for path in self._run_files() if overwrite else ():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def lock(self) -> None:
        """Keeps other runs out until :meth:`unlock` or the end of this process, however it ends.

        Raises:
            InputError: A run is writing into the folder.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            raise InputError(
                f"{self.path}: another run is writing into it; wait for its end, or give another "
                "--output_dir"
            ) from None

    def unlock(self) -> None:
        """Lets other runs in."""
        self._lock.release()

    def make(self) -> None:
        """Makes the folders of a run, without what a killed one left half-written."""
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        self.log_file.parent.mkdir(exist_ok=True)
        # Not below: there may be other runs' folders.
        for folder in (self.path, self.checkpoints, self.log_file.parent):
            for leftover in folder.glob(".*.writing-*"):
                if leftover.is_dir():
                    shutil.rmtree(leftover)
                else:
                    leftover.unlink(missing_ok=True)

    def tensorboard(self) -> TensorBoardLogger:
        """Curves under ``logs``: one folder for the run and what resumes it."""
        return RunTensorBoard(os.fspath(self.path))


def check_writable(path: Path, flag: str) -> None:
    """Looks whether files can be written into a folder, or one that is not there can be made.

    Raises:
        InputError: They can't.
    """
    if rank_zero_only.rank:  # the first rank's to write, and it may have begun
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
        for folder in missing:  # only looked: bad input must leave nothing behind
            with suppress(OSError):  # another run may be at its beginning there
                folder.rmdir()
