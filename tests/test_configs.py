"""Every shipped configuration trains, on few steps, as a user would run it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
import yaml
from sentence_transformers import SentenceTransformer
from tiny import sample_rows, with_negatives, write_jsonl

from embedft.cli.main import main
from embedft.encoder.base_model import find_base_model

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))
FAMILY = {"mpnet": "mpnet"}  # the others are BERT
REAL = {"minilm", "recommended", "quickstart", "matryoshka"}  # with the weights that are installed
GUIDE = {
    "minilm": "sentence-transformers/all-MiniLM-L6-v2",
    "mpnet": "sentence-transformers/all-mpnet-base-v2",
    "multi-qa": "sentence-transformers/multi-qa-MiniLM-L6-cos-v1",
    "multilingual": "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2",
}
PRECISION = {"gpu-bf16": "bf16-mixed", "ddp": "bf16-mixed"}


def test_there_is_one_for_each_base_model_of_the_guide() -> None:
    models = {
        path.stem: yaml.safe_load(path.read_text())["model"]["base_model"] for path in CONFIGS
    }
    assert {name: models.get(name) for name in GUIDE} == GUIDE


@pytest.mark.docs
def test_each_says_what_it_is_for_and_stands_in_the_table() -> None:
    table = (CONFIGS[0].parents[1] / "docs" / "presets.md").read_text()
    for path in CONFIGS:
        assert path.read_text().startswith("# ")
        assert f"`{path.name}`" in table, path.name


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_config(config: Path, pairs: Path, tmp_path: Path) -> None:
    name = config.stem
    args = ["fit", f"--config={config}", f"--input_jsonl={pairs}", f"--output_dir={tmp_path}/out"]
    args += ["--trainer.max_steps=3", "--accelerator=cpu", "--trainer.enable_progress_bar=false"]
    args.append("--max_seq_length=48")
    if name in REAL:
        folder = find_base_model(tiny.MINILM).folder
    else:
        folder = tiny.build(tmp_path / "base", FAMILY.get(name, "bert"))
        args.append(f"--base_model={folder}")
    if name == "hard-negatives":
        write_jsonl(pairs, with_negatives(sample_rows()[:60]))
    if name == "ddp":  # Lightning starts the other process with this one's command line
        command = [sys.executable, "-m", "embedft", *args, "--devices=2"]
        result = subprocess.run(command, env=os.environ, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
    else:
        main(args)
    saved = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    assert saved["trainer"]["precision"] == PRECISION.get(name, "auto")
    first, last = (
        SentenceTransformer(str(each), device="cpu")
        for each in (folder, tmp_path / "out" / "final_model")
    )
    for key in ("question", "answer"):
        texts = [row[key] for row in sample_rows()[:5]]
        before, after = first.encode(texts), last.encode(texts)
        assert before.shape == after.shape
        assert np.isfinite(after).all()
        assert np.linalg.norm(after - before, axis=1).min() > 1e-5, "nothing was trained"
