"""A checkpoint of version 0.1, as it was before the packages were put in order, still resumes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from embedft.encoder.checkpoint import read_checkpoint

# The names of the keys, a state a text.
RESULTS = "task values ranks places scores top_places top_scores sample questions answers"
DATA = """
    epoch batch mined trained_keys files data_fingerprint batch_size world_size seed
    train_split split_seed positive mine_negatives
"""
SETTINGS = """
    base_model learning_rate weight_decay warmup_steps max_seq_length pooling normalize dropout
    chunk_size base_share query_prompt document_prompt freeze_layers lora matryoshka_dims
    matryoshka_weights loss max_epochs max_steps limit_train_batches accumulate_grad_batches
    gradient_clip_val precision data_fingerprint batch_size world_size seed train_split split_seed
    positive mine_negatives negatives_per_pair hard_negatives device
"""
# What was stored then, and is no longer.
REMOVED = {"topic_place": None, "topic_batches": False, "file_batches": False}
PACKAGES = ("embedft", "torch", "lightning", "transformers", "numpy")


def only(state: dict[str, Any], names: str) -> dict[str, Any]:
    """The old form of a state; a name that is no longer saved would be a KeyError."""
    return {name: state[name] for name in names.split()}


def as_it_was(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint in its old form: without keys that were added since, with all that it had."""
    files = checkpoint["callbacks"]["RunFiles"]
    assert files.keys() >= {"evaluations", "findings", "top"}
    old: dict[str, Any] = {
        "evaluations": files["evaluations"],
        "findings": {name: only(found, RESULTS) for name, found in files["findings"].items()},
        "top": files["top"],
    }
    settings = checkpoint["embedft_run_settings"]
    versions = {f"{name} version": settings[f"{name} version"] for name in PACKAGES}
    return checkpoint | {
        "callbacks": checkpoint["callbacks"] | {"RunFiles": old},
        "EmbeddingDataModule": only(checkpoint["EmbeddingDataModule"], DATA) | REMOVED,
        "embedft_run_settings": only(settings, SETTINGS) | versions,
    }


def test_an_old_checkpoint_resumes(
    fit: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """To the weights and the evaluations of a run that was never stopped, without a warning."""
    flags = ["--save_steps=1", "--data.mine_negatives=true", "--model.base_share=0.4"]
    whole = fit(*flags, output_dir=tmp_path / "whole")
    fails = ["--trainer.callbacks+=recorder.Recorder", f"--trainer.callbacks.path={tmp_path}/note"]
    with pytest.raises(RuntimeError):
        fit(*flags, *fails, "--trainer.callbacks.fail_after=10")
    folder = tmp_path / "out"
    last = folder / "checkpoints" / "last.ckpt"
    torch.save(as_it_was(read_checkpoint(last)), tmp_path / "old.ckpt")
    (tmp_path / "old.ckpt").replace(last)
    capsys.readouterr()
    fit(*flags, "--ckpt_path=last")
    assert "warning: resume:" not in capsys.readouterr().out
    for name in ("final_model", "best_model"):
        weights = [load_file(out / name / "model.safetensors") for out in (whole, folder)]
        torch.testing.assert_close(*weights, rtol=0, atol=0)
    assert (folder / "metrics.json").read_text() == (whole / "metrics.json").read_text()
