"""The output folder of a run: where each file lies, and who may write into it."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from embedft.errors import InputError

# What a run writes, and so what --overwrite deletes; nothing else in the folder is touched.
RUN_FILES = (
    "checkpoints",
    "logs",
    "final_model",
    "best_model",
    "config.yaml",
    "metrics.json",
    "training_metrics.jsonl",
    "training_progress.json",
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
        self.log_file = path / "logs" / "embedding_finetuning.log"

    def checkpoint(self, name: str) -> Path:
        """The file that ``best``, ``last`` or a path means.

        Raises:
            InputError: There is no such file: a run never starts from scratch unasked.
        """
        path = Path(name)
        if name in {"best", "last"}:
            path = self.checkpoints / f"{name}.ckpt"
        if not path.is_file():
            raise InputError(
                f"{path}: no such checkpoint; check --output_dir, or leave --ckpt_path out"
            )
        return path.resolve()

    def check_free(self, ckpt_path: str | None, overwrite: bool) -> None:
        """Refuses a folder that holds another run, or that can't be written.

        Raises:
            InputError: The folder may not be used.
        """
        if rank_zero_only.rank:  # the first rank has decided, and may have begun to write
            return
        used = [name for name in RUN_FILES if (self.path / name).exists()]
        if used and ckpt_path is None and not overwrite:
            raise InputError(
                f"{self.path}: holds another run ({', '.join(used[:3])}); go on with it by "
                "--ckpt_path last, start anew by --overwrite true, or give another --output_dir"
            )
        missing = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise InputError(
                f"{self.path}: can't be written: {error.strerror or error}; "
                "give another --output_dir"
            ) from None
        finally:
            for folder in missing:  # only looked: bad input must leave nothing behind
                if folder.is_dir():
                    folder.rmdir()

    def clear(self, overwrite: bool) -> None:
        """Deletes the files of an earlier run, if told to."""
        for name in RUN_FILES if overwrite else ():
            path = self.path / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def make(self) -> None:
        """Makes the folders of a run."""
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        self.log_file.parent.mkdir(exist_ok=True)

    def tensorboard(self) -> TensorBoardLogger:
        """Curves under ``logs``: one folder for the run and what resumes it."""
        return TensorBoardLogger(save_dir=os.fspath(self.path), name="logs", version="")
