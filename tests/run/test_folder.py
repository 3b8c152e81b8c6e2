"""The output folder of a run: its paths, and what may be written or deleted."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from embedft.errors import InputError
from embedft.run.folder import RunFolder, check_writable

Capture = pytest.CaptureFixture[str]


def test_overwrite_keeps_the_base_model(
    fit: Callable[..., Path], run_copy: Path, capsys: Capture
) -> None:
    out = run_copy
    with pytest.raises(SystemExit) as stop:
        fit("--epochs=1", f"--base_model={out}/best_model", "--overwrite")
    assert stop.value.code == 2
    assert "best_model, which --overwrite deletes; give another --o" in capsys.readouterr().err
    assert (out / "best_model" / "model.safetensors").is_file()


def used_folder(path: Path) -> RunFolder:
    """A folder with some files of a run and one file of the user."""
    folder = RunFolder(path)
    folder.make()
    folder.last_checkpoint.touch()
    folder.metrics.touch()
    (path / "hpc_ckpt_3.ckpt").touch()
    (path / "notes.txt").touch()
    return folder


def test_overwrite_deletes_only_files_of_a_run(tmp_path: Path) -> None:
    folder = used_folder(tmp_path)
    folder.clear(overwrite=False)
    assert folder.last_checkpoint.exists()
    folder.clear(overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_used_folder_is_refused(tmp_path: Path) -> None:
    folder = used_folder(tmp_path)
    with pytest.raises(InputError, match=r"holds another run \(checkpoints, logs, metrics.json\)"):
        folder.check_free(None, overwrite=False, base_model="model")
    folder.check_free(None, overwrite=True, base_model="model")
    folder.check_free("last.ckpt", overwrite=False, base_model="model")
    with pytest.raises(InputError, match="which --overwrite deletes"):
        folder.check_free(None, overwrite=True, base_model=str(folder.checkpoints / "model"))


def test_half_written_files_are_deleted(tmp_path: Path) -> None:
    folder = used_folder(tmp_path)
    leftovers = [folder.checkpoints / ".last.ckpt.writing-17", tmp_path / ".best_model.writing-17"]
    leftovers[0].touch()
    leftovers[1].mkdir()
    other = tmp_path / "other_run" / ".last.ckpt.writing-18"
    other.parent.mkdir()
    other.touch()
    folder.make()
    assert not any(path.exists() for path in leftovers)
    assert other.exists()


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


def test_a_locked_folder(tmp_path: Path) -> None:
    """The lock is one of processes, and ends with the process."""
    folder = RunFolder(tmp_path)
    code = (
        "import sys; from pathlib import Path; from embedft.run.folder import RunFolder\n"
        "folder = RunFolder(Path(sys.argv[1])); folder.lock(); print('locked', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        with pytest.raises(InputError, match="another run is writing into it"):
            folder.lock()
        process.communicate()
    folder.lock()
    folder.unlock()


def test_a_check_leaves_no_folder_behind(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b", "--output_dir")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(
        InputError, match=r"file/b: can't be written: .*; give another --output_dir"
    ):
        check_writable(tmp_path / "file" / "b", "--output_dir")
