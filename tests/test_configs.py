"""Every shipped configuration trains, on few steps, as a user would run it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import yaml
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from tiny import sample_rows

from embedft.cli.main import main
from embedft.encoder.base_model import find_base_model

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))
FAMILY = {"mpnet": "mpnet"}  # the others are BERT
REAL = {"minilm", "recommended", "quickstart", "matryoshka"}  # with the weights that are installed
GUIDE = {
    "minilm": "sentence-transformers/all-MiniLM-L6-v2",
    "mpnet": "sentence-transformers/all-mpnet-base-v2",
    "multi-qa": "sentence-transformers/multi-qa-MiniLM-L6-cos-v1",
    "bge-small": "BAAI/bge-small-en-v1.5",
    "multilingual-e5": "intfloat/multilingual-e5-small",
    "multilingual": "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2",
}
OVERRIDDEN = {
    "model.base_model",
    "model.max_seq_length",
    "model.query_prompt",
    "trainer.accelerator",
    "trainer.devices",
}
PRECISION = {"gpu-bf16": "bf16-mixed", "ddp": "bf16-mixed"}


def settings(config: dict[str, Any], section: str = "") -> Iterator[tuple[str, Any]]:
    """Each setting of a config by its dotted name."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from settings(value, f"{section}{key}.")
        else:
            yield f"{section}{key}", value


def test_each_base_model_has_a_preset() -> None:
    models = {
        path.stem: yaml.safe_load(path.read_text()).get("model", {}).get("base_model")
        for path in CONFIGS
    }
    assert {name: models.get(name) for name in GUIDE} == GUIDE


@pytest.mark.docs
def test_each_preset_says_what_it_is_for_and_the_table_names_no_other() -> None:
    """A preset need not be in the table: its first line says what it is for."""
    table = (CONFIGS[0].parents[1] / "docs" / "presets.md").read_text()
    named = set(re.findall(r"^\| `([\w-]+\.yaml)`", table, re.MULTILINE))
    assert len(named) > 15
    assert named <= {path.name for path in CONFIGS}
    for path in CONFIGS:
        assert path.read_text().startswith("# ")
        lines = path.read_text().splitlines()
        assert [line for line in lines if len(line) > 100] == [], path.name


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_each_preset_trains_with_its_settings(config: Path, pairs: Path, tmp_path: Path) -> None:
    name = config.stem
    args = ["fit", f"--config={config}", f"--input_jsonl={pairs}", f"--output_dir={tmp_path}/out"]
    args += ["--trainer.max_steps=3", "--accelerator=cpu", "--trainer.enable_progress_bar=false"]
    args.append("--max_seq_length=48")
    if "prompt" in config.read_text():  # to the tiny tokenizer it has more tokens than that
        args.append("--model.query_prompt=query: ")
    if name in REAL:
        folder = find_base_model(tiny.MINILM).folder
    else:
        folder = tiny.build(tmp_path / "base", FAMILY.get(name, "bert"))
        args.append(f"--base_model={folder}")
    if name == "ddp":  # Lightning starts the other process with this one's command line
        command = [sys.executable, "-m", "embedft", *args, "--devices=2"]
        result = subprocess.run(command, env=os.environ, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
    else:
        main(args)
    saved = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    assert saved["trainer"]["precision"] == PRECISION.get(name, "auto")
    used = dict(settings(saved))
    for setting, value in settings(yaml.safe_load(config.read_text())):
        if setting == "model.loss.class_path":
            assert used[setting].endswith(f".{value}")
        elif setting not in OVERRIDDEN:
            assert used[setting] == value, setting
    trained = tmp_path / "out" / "final_model"
    embeddings = SentenceTransformer(str(trained), device="cpu").encode(sample_rows()[0]["answer"])
    assert np.isfinite(embeddings).all()
    before, after = (load_file(each / "model.safetensors") for each in (folder, trained))
    queries = [key for key in before if re.search(r"attention.*\.(query|q)\.weight$", key)]
    assert queries, "no weights of attention"
    for key in queries:  # those that every preset trains, LoRA included
        assert not torch.equal(before[key], after[key]), f"{key} was not trained"
