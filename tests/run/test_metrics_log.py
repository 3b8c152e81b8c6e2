"""Metrics line by line, the progress of a run, and when it evaluates what."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from embedft.errors import InputError, StoppedError
from embedft.run import evaluations
from embedft.run.folder import RunFolder
from embedft.run.metrics_log import MetricsLog

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize("not_worse", [True, False])
def test_best_is_the_latest_that_is_not_significantly_worse(
    fit: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, not_worse: bool
) -> None:
    monkeypatch.setattr(evaluations, "not_significantly_worse", lambda *found: not_worse)
    folder = fit("--evaluation_steps=2", "--epochs=2")
    metrics = json.loads((folder / "metrics.json").read_text())
    lines = (folder / "training_metrics.jsonl").read_text().splitlines()
    found = [
        (line["val/ndcg@10"], line["step"])
        for line in map(json.loads, lines)
        if "val/ndcg@10" in line and line["step"]
    ]
    assert len(found) > 4
    best = found[-1] if not_worse else max(found)  # of several that find most the latest
    assert (metrics["best"]["ndcg@10"], metrics["best"]["step"]) == best


def test_failure_is_recorded(fit: Callable[..., Path], tmp_path: Path, capsys: Capture) -> None:
    flags = [
        "--trainer.callbacks+=recorder.Recorder",
        f"--trainer.callbacks.path={tmp_path}/r",
        "--trainer.callbacks.fail_after=2",
        "--save_steps=1",
    ]
    with pytest.raises(RuntimeError, match="the test wants it so"):
        fit(*flags)
    progress = json.loads((tmp_path / "out" / "training_progress.json").read_text())
    assert progress["training_completed"] is False
    assert progress["failure"] == "RuntimeError: the test wants it so"
    said = "stopped: RuntimeError: the test wants it so; resume with --ckpt_path last"
    assert said in capsys.readouterr().out
    assert said in (tmp_path / "out" / "logs" / "embedding_finetuning.log").read_text()
    assert 0 < progress["duration_seconds"] < 300


def started(folder: Path) -> MetricsLog:
    metrics_log = MetricsLog(RunFolder(folder))
    metrics_log.begin(
        {"base_model": "tiny", "num_epochs": 2, "train_examples": 50, "eval_examples": 10}
    )
    return metrics_log


def progress_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "training_progress.json").read_text())
    return content


def test_progress_of_a_run(tmp_path: Path) -> None:
    metrics_log = started(tmp_path)
    begun = progress_of(tmp_path)
    assert begun["training_completed"] is False
    assert (begun["train_examples"], begun["completed_at"]) == (50, None)
    metrics_log.end(training_completed=True, final_model_path="out/final_model")
    ended = progress_of(tmp_path)
    assert ended["training_completed"] is True
    assert ended["duration_seconds"] >= 0
    assert ended.keys() == begun.keys()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("no"), "ValueError: no"),
        (ValueError(), "ValueError"),
        (InputError("a.jsonl: is empty"), "a.jsonl: is empty"),
        (KeyboardInterrupt(), "interrupted"),
    ],
)
def test_reason_of_a_failure(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: BaseException, reason: str
) -> None:
    trainer: Any = SimpleNamespace(is_global_zero=True)
    metrics_log = started(tmp_path)
    metrics_log.on_exception(trainer, None, error)  # type: ignore[arg-type]
    assert progress_of(tmp_path)["failure"] == reason
    assert caplog.messages == []  # there is no checkpoint to resume from
    metrics_log.folder.checkpoints.mkdir()
    metrics_log.folder.last_checkpoint.touch()
    metrics_log.on_exception(trainer, None, error)  # type: ignore[arg-type]
    assert caplog.messages == [f"stopped: {reason}; resume with --ckpt_path last"]
    stopped = StoppedError(15, "saved; resume with --ckpt_path last")
    metrics_log.on_exception(trainer, None, stopped)  # type: ignore[arg-type]
    assert len(caplog.messages) == 1  # the error says it already


def test_a_resumed_run_drops_the_lines_that_it_repeats(tmp_path: Path) -> None:
    metrics_log = started(tmp_path)
    path = metrics_log.folder.training_metrics
    path.write_text('{"step": 0}\n{"step": 3}\n{"step": 4}\n{"ste')
    trainer: Any = SimpleNamespace(global_step=3, is_global_zero=True)
    metrics_log.on_train_start(trainer, None)  # type: ignore[arg-type]
    assert path.read_text() == '{"step": 0}\n{"step": 3}\n'
