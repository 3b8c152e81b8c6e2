"""The output folder of a run: its paths."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from embedft.errors import InputError
from embedft.run.folder import RunFolder, check_writable


def used_folder(path: Path) -> RunFolder:
    """A folder with some files of a run."""
    folder = RunFolder(path)
    folder.checkpoints.mkdir(parents=True)
    folder.last_checkpoint.touch()
    folder.metrics.touch()
    (path / "hpc_ckpt_3.ckpt").touch()
    return folder


def test_a_checkpoint_of_a_requeued_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a job that SLURM has restarted takes it, and only if ``last.ckpt`` is older."""
    folder = used_folder(tmp_path)
    saved = tmp_path / "hpc_ckpt_12.ckpt"
    saved.touch()
    for name in ("SLURM_NTASKS", "SLURM_JOB_NAME", "SLURM_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)
    os.utime(folder.last_checkpoint, ns=(0, 0))
    assert folder.requeued() is None
    monkeypatch.setenv("SLURM_NTASKS", "1")
    monkeypatch.setenv("SLURM_JOB_NAME", "train")
    assert folder.requeued() is None
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert folder.requeued() == saved
    os.utime(saved, ns=(0, 0))
    os.utime(folder.last_checkpoint, ns=(10**9, 10**9))
    assert folder.requeued() == folder.last_checkpoint
    folder.delete_requeue_checkpoints()
    assert folder.requeued() is None


def test_a_check_leaves_no_folder_behind(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b", "--output_dir")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(
        InputError, match=r"file/b: can't be written: .*; give another --output_dir"
    ):
        check_writable(tmp_path / "file" / "b", "--output_dir")
