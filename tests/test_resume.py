"""Stopping and going on: each remaining batch once, and the same weights as without the stop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from recorder import recorded
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

# 50 training rows in batches of 8: 7 batches an epoch, 14 in all.


def recorder_flags(path: Path, **options: int) -> list[str]:
    return [
        "--trainer.callbacks+=recorder.Recorder",
        f"--trainer.callbacks.path={path}",
        *[f"--trainer.callbacks.{name}={value}" for name, value in options.items()],
    ]


def killed_fit(flags: list[str]) -> None:
    """Runs a fit that kills itself."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-m", "embedft", "fit", *flags]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == -9, result.stderr


@pytest.mark.parametrize(
    ("save_steps", "killed_after", "saved_at", "more"),
    [
        pytest.param(3, 4, 3, [], id="within the first epoch"),
        pytest.param(7, 8, 7, [], id="saved at an epoch's end"),
        pytest.param(3, 11, 9, [], id="within the second epoch"),
        pytest.param(1, 10, 9, ["--trainer.accumulate_grad_batches=2"], id="within a window"),
        pytest.param(2, 5, 4, ["--loss_function=contrastive"], id="with drawn negatives"),
        pytest.param(2, 5, 4, ["--data.num_workers=1"], id="with a worker that prefetches"),
    ],
)
def test_a_killed_run_goes_on(
    fit: Callable[..., Path],
    fit_flags: list[str],
    tmp_path: Path,
    save_steps: int,
    killed_after: int,
    saved_at: int,
    more: list[str],
) -> None:
    save = f"--save_steps={save_steps}"
    whole = fit(save, *more, *recorder_flags(tmp_path / "whole"), output_dir=tmp_path / "a")
    everything = recorded(tmp_path / "whole")
    assert len(everything) == 14

    folder = tmp_path / "b"
    killed_fit(
        [
            *fit_flags,
            f"--output_dir={folder}",
            save,
            *more,
            *recorder_flags(tmp_path / "killed", kill_after=killed_after),
        ]
    )
    assert recorded(tmp_path / "killed") == everything[:killed_after]
    assert (
        json.loads((folder / "training_progress.json").read_text())["training_completed"] is False
    )

    fit(save, *more, "--ckpt_path=last", *recorder_flags(tmp_path / "rest"), output_dir=folder)
    assert recorded(tmp_path / "rest") == everything[saved_at:]

    for name in ("final_model", "best_model"):
        expected = load_file(whole / name / "model.safetensors")
        resumed = load_file(folder / name / "model.safetensors")
        assert all(torch.equal(resumed[key], tensor) for key, tensor in expected.items())
    metrics = [json.loads((f / "metrics.json").read_text()) for f in (whole, folder)]
    assert metrics[0] == metrics[1]
    lines = [
        json.loads(line) for line in (folder / "training_metrics.jsonl").read_text().splitlines()
    ]
    steps = [line["step"] for line in lines if "train/loss" in line]
    assert steps == list(range(1, metrics[0]["last"]["step"] + 1))
    assert json.loads((folder / "training_progress.json").read_text())["training_completed"] is True


def test_a_run_stopped_within_an_epoch_goes_on(fit: Callable[..., Path], tmp_path: Path) -> None:
    whole = fit(*recorder_flags(tmp_path / "whole"), output_dir=tmp_path / "a")
    warmup = "--warmup_steps=0"
    folder = fit("--trainer.max_steps=5", warmup)
    assert json.loads((folder / "metrics.json").read_text())["last"]["step"] == 5
    assert "tuned - base" in (folder / "best_model" / "README.md").read_text()
    fit("--ckpt_path=last", warmup, *recorder_flags(tmp_path / "rest"))
    assert recorded(tmp_path / "rest") == recorded(tmp_path / "whole")[5:]
    metrics = [json.loads((f / "metrics.json").read_text()) for f in (whole, folder)]
    assert metrics[1]["base"] == metrics[0]["base"]
    assert metrics[1]["best"]["ndcg@10"] >= metrics[1]["last"]["ndcg@10"]


def test_the_best_checkpoint_can_be_gone_on_from(fit: Callable[..., Path], tmp_path: Path) -> None:
    folder = fit(*recorder_flags(tmp_path / "whole"))
    step = json.loads((folder / "metrics.json").read_text())["best"]["step"]
    best = folder / "checkpoints" / "best.ckpt"
    fit(f"--ckpt_path={best}", *recorder_flags(tmp_path / "rest"), output_dir=tmp_path / "b")
    rest = recorded(tmp_path / "rest") if (tmp_path / "rest.0").exists() else []
    assert rest == recorded(tmp_path / "whole")[step:]


def test_a_finished_run_can_be_made_longer(fit: Callable[..., Path], tmp_path: Path) -> None:
    folder = fit(*recorder_flags(tmp_path / "first"))
    fit("--ckpt_path=last", "--epochs=3", *recorder_flags(tmp_path / "more"))
    assert [entry[:2] for entry in recorded(tmp_path / "more")] == [[2, i] for i in range(7)]
    assert json.loads((folder / "metrics.json").read_text())["last"]["step"] == 21


def test_resume_of_a_finished_run_trains_nothing(fit: Callable[..., Path], tmp_path: Path) -> None:
    folder = fit()
    before = load_file(folder / "final_model" / "model.safetensors")
    fit("--ckpt_path=last", *recorder_flags(tmp_path / "none"))
    assert not (tmp_path / "none.0").exists()
    after = load_file(folder / "final_model" / "model.safetensors")
    assert all(torch.equal(after[key], tensor) for key, tensor in before.items())


def test_other_batches_can_not_be_continued(
    fit: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fit("--trainer.max_steps=4")
    with pytest.raises(SystemExit) as error:
        fit(
            f"--ckpt_path={folder}/checkpoints/last.ckpt",
            "--batch_size=4",
            output_dir=tmp_path / "n",
        )
    assert error.value.code == 2
    message = capsys.readouterr().err
    assert "was made with batch_size 8, now 4: its batches can't be continued" in message


def test_a_missing_last_is_an_error(
    fit: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as error:
        fit("--ckpt_path=last")
    assert error.value.code == 2
    assert "checkpoints/last.ckpt: no such checkpoint" in capsys.readouterr().err
