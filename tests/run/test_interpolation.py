"""Weights mixed with those of the base model."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from embedft.cli.main import main
from embedft.run import interpolation

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize(("answers", "expected"), [([True], 0.25), ([False, True], 0.125)])
def test_best_model_is_the_weighted_mean(
    fit: Callable[..., Path],
    tiny_model: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
    answers: list[bool],
    expected: float,
) -> None:
    """The best model has the weighted mean of the weights, and the metrics of that mean.

    With ten questions significance is chance, so the test decides it.
    """
    monkeypatch.setattr(interpolation, "not_significantly_worse", lambda *found: answers.pop(0))
    out = fit("--model.base_share=0.25", "--trainer.num_sanity_val_steps=0")
    said = capsys.readouterr().out
    best = json.loads((out / "metrics.json").read_text())["best"]
    share = best["base_share"]
    assert share == expected
    assert f"{share:.0%} the base model's)" in said
    base, mixed = (
        load_file(folder / "model.safetensors") for folder in (tiny_model, out / "best_model")
    )
    tuned = torch.load(out / "checkpoints" / "best.ckpt")["state_dict"]
    for name, weight in mixed.items():
        if (trained := tuned.get(f"encoder.backbone.{name}")) is not None:
            torch.testing.assert_close(weight, (1 - share) * trained + share * base[name])
    last = torch.load(out / "checkpoints" / "last.ckpt")["state_dict"]
    for name, weight in load_file(out / "final_model" / "model.safetensors").items():
        if (trained := last.get(f"encoder.backbone.{name}")) is not None:
            assert torch.equal(weight, trained)

    main(
        [
            "test",
            f"--input_jsonl={out.parent / 'pairs.jsonl'}",
            f"--base_model={out / 'best_model'}",
            "--train_split=0.8",
            "--precision=32-true",
            "--trainer.enable_progress_bar=false",
        ]
    )
    printed = capsys.readouterr().out
    shown = re.search(r"ndcg@10 +\| ([\d.]+)", printed)
    assert shown is not None
    assert shown[1] == f"{best['ndcg@10']:.4f}"


def test_interpolated_weights() -> None:
    """Each weight in the tuned one's type; integers, such as positions, stay as they are."""
    tuned = {"a": torch.tensor([1.0, 2.0], dtype=torch.bfloat16), "ids": torch.tensor([1])}
    base = {"a": torch.tensor([3.0, 6.0]), "ids": torch.tensor([9])}
    mean = interpolation.interpolated(tuned, base, 0.25)
    assert mean["a"].dtype == torch.bfloat16
    assert mean["a"].tolist() == [1.5, 3.0]
    assert mean["ids"].tolist() == [1]


def test_weights_of_lower_precision(fit: Callable[..., Path]) -> None:
    """bfloat16 weights are mixed with the base model's, which are float32."""
    out = fit("--epochs=1", "--precision=bf16-true", "--model.base_share=0.4")
    best, last = (load_file(out / f / "model.safetensors") for f in ("best_model", "final_model"))
    assert any(not torch.equal(weight, last[name]) for name, weight in best.items())


def test_no_gain_if_the_base_model_was_not_measured(
    fit: Callable[..., Path], capsys: Capture
) -> None:
    """Neither for the tuned weights nor for those mixed with the base model's."""
    out = fit("--epochs=1", "--model.base_share=0.4", "--trainer.num_sanity_val_steps=0")
    said = capsys.readouterr().out
    assert "The base model was not evaluated" in said
    metrics = json.loads((out / "metrics.json").read_text())
    value, without = metrics["best"]["ndcg@10"], metrics["last"]["ndcg@10"]
    assert f"base_share 0.4: nDCG@10 {value:.4f} ({without:.4f} without)" in said
