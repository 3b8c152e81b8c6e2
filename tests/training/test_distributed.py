"""Two processes on the CPU see the batches of one, and measure the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from recorder import recorded
from safetensors.torch import load_file

pytestmark = pytest.mark.slow


def test_two_ranks(fit: Callable[..., Path], fit_flags: list[str], tmp_path: Path) -> None:
    record = ["--trainer.callbacks+=recorder.Recorder", "--trainer.callbacks.path={}"]
    one = fit(*[flag.format(tmp_path / "one") for flag in record], "--batch_size=8")
    command = [sys.executable, "-m", "embedft", "fit", *fit_flags, f"--output_dir={tmp_path}/two"]
    command += ["--batch_size=4", "--devices=2", "--strategy=ddp"]
    command += [flag.format(tmp_path / "two-rows") for flag in record]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr

    whole = recorded(tmp_path / "one")
    ranks = [recorded(tmp_path / "two-rows", rank) for rank in range(2)]
    assert len(ranks[0]) == len(ranks[1]) == len(whole)
    for expected, first, second in zip(whole, *ranks, strict=True):
        assert first[2] + second[2] == expected[2]
        assert first[:2] == second[:2] == expected[:2]

    metrics = [
        json.loads((folder / "metrics.json").read_text()) for folder in (one, tmp_path / "two")
    ]
    for name, value in metrics[0]["base"].items():
        if name != "loss":  # held-out batches are a rank's, so smaller here
            assert metrics[1]["base"][name] == pytest.approx(value, abs=1e-6), name
    assert load_file(tmp_path / "two" / "final_model" / "model.safetensors")
    assert result.stdout.count("rows read") == 1
