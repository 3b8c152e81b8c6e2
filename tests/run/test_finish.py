"""What the end of a fit exports, writes and prints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from tiny import MULTILINGUAL, sample_rows, write_jsonl

from embedft.encoder.base_model import find_base_model
from embedft.encoder.checkpoint import read_checkpoint
from embedft.training.module import EmbeddingModule

Capture = pytest.CaptureFixture[str]
Fit = Callable[..., Path]


def test_a_worse_model_says_so(fit: Callable[..., Path], capsys: Capture, pairs: Path) -> None:
    """Trained on wrong answers, the model is worse: best_model is the base model and says so."""
    train = [
        row | {"answer": other["answer"]}
        for row, other in zip(sample_rows()[:100], sample_rows()[50:150], strict=True)
    ]
    write_jsonl(pairs, train)
    own = write_jsonl(pairs.with_name("own.jsonl"), sample_rows()[150:])
    flags = [
        "--epochs=1",
        "--batch_size=32",
        "--learning_rate=3e-4",
        f"--base_model={tiny.MINILM}",
        "--max_seq_length=32",
    ]
    out = fit(*flags, f"--validation_jsonl={own}", f"--data.guard_jsonl={MULTILINGUAL}")
    said = capsys.readouterr().out
    assert "The tuned model is WORSE than the base model" in said
    assert "Nothing is forgotten elsewhere: the best model is the base model." in said
    assert "best_model (the base model)" in said
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["best_model"] == metrics["base"] != metrics["best"]
    assert (
        "best_model is the unmodified base model" in (out / "best_model" / "README.md").read_text()
    )
    assert "> **The tuned model is WORSE" in (out / "final_model" / "README.md").read_text()
    base = load_file(find_base_model(tiny.MINILM).folder / "model.safetensors")
    best = load_file(out / "best_model" / "model.safetensors")
    last = load_file(out / "final_model" / "model.safetensors")
    names = base.keys() & best.keys()
    assert len(names) > 90
    assert all(torch.equal(best[name], base[name]) for name in names)
    assert any(not torch.equal(last[name], base[name]) for name in names)


@pytest.mark.parametrize("change", ["{}\n", ""])
def test_input_that_changes_during_the_run(
    fit: Callable[..., Path],
    pairs: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
) -> None:
    """Models and metrics are written; an error says why the files that quote rows are not."""
    monkeypatch.setattr(
        EmbeddingModule, "on_train_end", lambda module: pairs.write_text(change), raising=False
    )
    with pytest.raises(SystemExit) as stop:
        fit("--epochs=1")
    assert stop.value.code == 2
    assert "pairs.jsonl: changed during the run" in capsys.readouterr().err
    out = pairs.parent / "out"
    assert json.loads((out / "metrics.json").read_text())["last"]["step"] == 7
    for name in ("best_model", "final_model"):
        assert len(SentenceTransformer(str(out / name)).encode("text")) == 32


AVERAGE = ["--trainer.callbacks+=EMAWeightAveraging", "--trainer.callbacks.decay=0.9"]


def test_averaged_weights_are_measured_and_exported(fit: Fit) -> None:
    folder = fit(*AVERAGE, "--model.base_share=0.4")
    last = read_checkpoint(folder / "checkpoints" / "last.ckpt")
    exported = load_file(folder / "final_model" / "model.safetensors")
    name = "encoder.layer.1.output.dense.weight"
    assert torch.equal(exported[name], last["state_dict"][f"encoder.backbone.{name}"])
    assert not torch.equal(exported[name], last["current_model_state"][f"encoder.backbone.{name}"])
    fit("--ckpt_path=last", *AVERAGE, "--model.base_share=0.4")  # nothing is left to train
    again = load_file(folder / "final_model" / "model.safetensors")
    assert all(torch.equal(weight, again[key]) for key, weight in exported.items())
