"""Early stopping in a run that is resumed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Fit = Callable[..., Path]


def metrics_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return content


def test_early_stopping(fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that was stopped stays so and says it, until there is more patience."""
    flags = [
        "--epochs=9",
        "--learning_rate=1e-30",
        "--trainer.callbacks+=EarlyStopping",
        "--trainer.callbacks.monitor=val/ndcg@10",
        "--trainer.callbacks.mode=max",
        "--trainer.callbacks.patience=2",
    ]
    folder = fit(*flags)
    assert metrics_of(folder)["last"]["step"] == 3 * 7
    assert json.loads((folder / "training_progress.json").read_text())["training_completed"] is True
    capsys.readouterr()
    fit(*flags, "--ckpt_path=last")
    assert (
        "this run had been stopped early; to continue, raise EarlyStopping's patience"
        in capsys.readouterr().out
    )
    assert metrics_of(folder)["last"]["step"] == 3 * 7
    fit(*flags[:-1], "--trainer.callbacks.patience=4", "--ckpt_path=last")
    assert metrics_of(folder)["last"]["step"] == 5 * 7
    assert "EarlyStopping had ended" not in capsys.readouterr().out
