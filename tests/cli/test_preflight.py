"""What is refused before a file is touched."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
from command_line import Capture, fails

from embedft.cli.main import main


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--model.loss.scale=-1", "scale: is -1.0, must be above 0"),
        ("--batch_size=0", "batch_size: is 0, must be at least 1"),
        ("--learning_rate=0", "learning_rate: is 0.0, must be above 0"),
        ("--train_split=1.5", "train_split: is 1.5, must lie between 0 and 1"),
        ("--max_seq_length=4096", "max_seq_length: is 4096, but"),
        ("--accelerator=gpu", "No supported gpu backend found; use --accelerator auto"),
        ("--precision=17", "Precision 17 is invalid"),
        (
            "--trainer.fast_dev_run=true",
            "trainer.fast_dev_run: would skip texts that must be evaluated",
        ),
        ("--trainer.limit_val_batches=0", "trainer.limit_val_batches: would skip texts"),
        ("--trainer.reload_dataloaders_every_n_epochs=0", "each epoch has new batches"),
    ],
)
def test_wrong_settings(
    fit_flags: list[str], flag: str, message: str, tmp_path: Path, capsys: Capture
) -> None:
    import torch

    if flag == "--accelerator=gpu" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    said = fails(["fit", f"--output_dir={tmp_path}/out", *fit_flags, flag], capsys)
    assert said.startswith(message)
    assert "\n" not in said


def test_a_used_folder_is_refused_until_told(
    fit: Callable[..., Path], fit_flags: list[str], run_copy: Path, capsys: Capture
) -> None:
    out = run_copy
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    said = fails(["fit", f"--output_dir={out}", *fit_flags], capsys)
    assert "holds another run" in said
    assert "--ckpt_path last" in said
    assert "--overwrite" in said
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    (out / "notes.txt").write_text("mine")
    fit("--epochs=1", "--overwrite")
    assert (out / "notes.txt").read_text() == "mine"
    assert json.loads((out / "training_progress.json").read_text())["training_completed"] is True


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--input_jsonl=none.jsonl", "none.jsonl: no such file"),
        ("--validation_jsonl=none.jsonl", "none.jsonl: no such file"),
        ("--epochs=-1", "epochs: the run has no end"),
        ("--batch_size=0", "batch_size: is 0"),
        ("--learning_rate=-1", "learning_rate: is -1"),
        ("--train_split=90", "train_split: is 90.0, must lie between 0 and 1"),
        ("--train_split=0", "train_split: is 0.0, must lie between 0 and 1"),
        ("--save_steps=0", "save_steps: is 0"),
        (
            "--seed=1",
            "{out}: holds another run (metrics.json); resume it with --ckpt_path last, ",
        ),
    ],
)
def test_a_wrong_flag_is_reported_before_a_used_folder(
    fit_flags: list[str], flag: str, message: str, tmp_path: Path, capsys: Capture
) -> None:
    """Who mistypes a flag is not told to delete a run for it."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "metrics.json").touch()
    (out / "training_progress.json").write_text('{"training_completed": true}')
    said = fails(["fit", f"--output_dir={out}", *fit_flags, flag], capsys)
    assert said.startswith(message.format(out=out))
    assert "--overwrite true" not in said


@pytest.mark.parametrize("command", ["fit", "test"])
def test_a_train_split_out_of_range_is_refused_before_reading(
    command: str, fit_flags: list[str], pairs: Path, tmp_path: Path, capsys: Capture
) -> None:
    pairs.write_text("not read")
    said = fails([command, f"--output_dir={tmp_path}/out", *fit_flags, "--train_split=90"], capsys)
    assert said == "train_split: is 90.0, must lie between 0 and 1 (usual: 0.9)"


def test_overwrite_deletes_nothing_while_the_input_is_bad(
    run_copy: Path, fit_flags: list[str], pairs: Path, capsys: Capture
) -> None:
    out = run_copy
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    pairs.write_text("{")
    fails(["fit", f"--output_dir={out}", *fit_flags, "--overwrite"], capsys)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("command", ["fit", "test"])
def test_a_checkpoint_of_another_model_is_refused(
    run_copy: Path, fit_flags: list[str], command: str, tmp_path: Path, capsys: Capture
) -> None:
    out = run_copy
    other = tiny.build(tmp_path / "other", "distilbert")
    said = fails(
        [command, f"--output_dir={out}", *fit_flags, f"--base_model={other}", "--ckpt_path=last"],
        capsys,
    )
    assert "its weights do not fit base model" in said


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_folder_without_permission_is_refused(
    fit_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(SystemExit) as error:
            main(["fit", f"--output_dir={tmp_path}/out", *fit_flags])
        assert error.value.code == 2
        assert f"{tmp_path}/out: can't be written: " in capsys.readouterr().err
    finally:
        tmp_path.chmod(0o700)
