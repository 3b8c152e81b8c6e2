"""``auto`` trains as the values that it names. When it chooses which is in test_recipe.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from runs import assert_trained_as
from safetensors.torch import load_file
from tiny import sample_rows, write_jsonl

from embedft import recipe

Capture = pytest.CaptureFixture[str]


def test_auto_topics(
    fit: Callable[..., Path],
    pairs: Path,
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recipe, "TOPIC_PAIRS", 50)
    out = fit("--data.topic_batches=auto", "--epochs=1")
    assert "topic_batches auto: on (50 training pairs, " in capsys.readouterr().out
    same, other = (
        fit(f"--data.topic_batches={value}", "--epochs=1", output_dir=tmp_path / str(value))
        for value in (True, False)
    )
    assert_trained_as(same, other, out)


def test_auto_files(fit: Callable[..., Path], pairs: Path, tmp_path: Path, capsys: Capture) -> None:
    out = fit("--data.file_batches=auto", "--epochs=1")
    said = "file_batches auto: on (100% of the pairs share their file with another pair)"
    assert said in capsys.readouterr().out
    same, other = (
        fit(f"--data.file_batches={value}", "--epochs=1", output_dir=tmp_path / str(value))
        for value in (True, False)
    )
    assert_trained_as(same, other, out)


def test_auto_of_the_loss_and_of_base_share(
    fit: Callable[..., Path], pairs: Path, tmp_path: Path, capsys: Capture
) -> None:
    rows = [row | {"file_name": f"{row['id']}.pdf"} for row in sample_rows()[:60]]
    write_jsonl(pairs, rows)
    margin, smoothing, share = 0.2, 0.1, 0.4

    def run(margin: float | str, smoothing: float | str, share: float | str = 0) -> Path:
        return fit(
            f"--model.loss.additive_margin={margin}",
            f"--model.loss.label_smoothing={smoothing}",
            f"--model.base_share={share}",
            "--data.topic_batches=true",
            "--epochs=1",
            output_dir=tmp_path / f"{margin}-{smoothing}",
        )

    out = run("auto", "auto", "auto")
    said = capsys.readouterr().out
    answers = "0.00% of the questions have several answers"
    files = "0% of the pairs share their file with another pair"
    assert f"\nlabel_smoothing auto: 0.1 ({answers}, {files}, batches are by topic)\n" in said
    assert f"\nadditive_margin auto: 0.2 ({answers})\nbase_share auto: 0.4 ({answers})\n" in said
    assert f"\nbase_share {share}: nDCG@10" in said
    same = run(margin, smoothing)
    assert_trained_as(same, run(0.3, smoothing), out)
    assert_trained_as(same, run(margin, 0.3), out)
    losses = [json.loads((f / "metrics.json").read_text())["last"]["loss"] for f in (out, same)]
    assert losses[0] == losses[1]


def test_auto_epochs_and_rate_of_a_large_set(
    fit: Callable[..., Path], tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A set of 30 pairs counts as large here."""
    monkeypatch.setattr(recipe, "LARGE_SET", 30)
    out = fit("--epochs=auto", "--learning_rate=auto")
    said = capsys.readouterr().out
    assert "\nmax_epochs auto: 2 (50 training pairs)\n" in said
    assert " warm-up to 0.000125\n" in said
    assert json.loads((out / "training_progress.json").read_text())["num_epochs"] == 2
    assert "max_epochs: auto\n" in (out / "config.yaml").read_text()
    same = fit("--epochs=2", "--learning_rate=1.25e-4", output_dir=tmp_path / "same")
    weights = [load_file(folder / "final_model" / "model.safetensors") for folder in (out, same)]
    torch.testing.assert_close(*weights, rtol=0, atol=0)
    fit("--epochs=auto", "--learning_rate=auto", "--ckpt_path=last")
    assert "the new values are used" not in capsys.readouterr().out
