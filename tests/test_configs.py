"""Every shipped configuration trains, on few steps, as a user would run it."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import yaml
from sentence_transformers import SentenceTransformer

from embedft.cli import main

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))
FAMILY = {"mpnet": "mpnet"}  # the others are BERT
GUIDE = {
    "minilm": "sentence-transformers/all-MiniLM-L6-v2",
    "mpnet": "sentence-transformers/all-mpnet-base-v2",
    "multi-qa": "sentence-transformers/multi-qa-MiniLM-L6-cos-v1",
    "multilingual": "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2",
}


def test_there_is_one_for_each_base_model_of_the_guide() -> None:
    models = {
        path.stem: yaml.safe_load(path.read_text())["model"]["base_model"] for path in CONFIGS
    }
    assert {name: models.get(name) for name in GUIDE} == GUIDE


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_config(config: Path, pairs: Path, tmp_path: Path) -> None:
    assert config.read_text().startswith("# ")
    args = [
        "fit",
        "--config",
        str(config),
        f"--input_jsonl={pairs}",
        f"--output_dir={tmp_path}/out",
    ]
    args += ["--trainer.max_steps=3", "--accelerator=cpu", "--trainer.enable_progress_bar=false"]
    if tiny.MINILM not in config.read_text():  # real weights of the others are not installed
        folder = tiny.build(tmp_path / "base", FAMILY.get(config.stem, "bert"))
        args.append(f"--base_model={folder}")
    main(args)
    model = SentenceTransformer(str(tmp_path / "out" / "best_model"), device="cpu")
    assert model.similarity(model.encode("a"), model.encode("a")).item() == pytest.approx(
        1, abs=1e-5
    )
