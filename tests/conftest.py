from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = (
    "1"  # before huggingface_hub is imported: no test waits for a network
)
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest
import tiny
from runs import FinishedRun, finish, log_restored, short_fit
from safetensors.torch import load_file, save_file
from tiny import sample_rows, write_jsonl

# A shell's background jobs ignore Ctrl-C, and so would every process that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Runs slow tests first, so that no process is left alone with one at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--accelerator", default="cpu", help="where test_resume.py and test_fit.py fit"
    )


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tokens are cached in a folder of this session, not in the user's."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def _log_restored() -> Iterator[None]:
    with log_restored():
        yield


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT in the sentence-transformers layout."""
    return tiny.build(tmp_path_factory.mktemp("models") / "tiny-bert")


@pytest.fixture(scope="session")
def telling_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny BERT with longer word vectors.

    To the tiny BERT itself all texts are alike, so no answer would count as a hard negative.
    """
    folder = tmp_path_factory.mktemp("models") / "telling-bert"
    shutil.copytree(tiny_model, folder)
    weights = load_file(folder / "model.safetensors")
    weights["embeddings.word_embeddings.weight"] *= 10
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """60 rows of the sample, 12 papers."""
    return write_jsonl(tmp_path / "pairs.jsonl", sample_rows()[:60])


@pytest.fixture
def fit_flags(tiny_model: Path, pairs: Path, pytestconfig: pytest.Config) -> list[str]:
    """The short fit of the tiny model."""
    return short_fit(pairs, tiny_model, pytestconfig)


@pytest.fixture
def fit(fit_flags: list[str], tmp_path: Path) -> Callable[..., Path]:
    """Runs the short fit through the command line; returns its output folder."""
    from embedft.cli.main import main

    def run(*flags: str, output_dir: Path | None = None) -> Path:
        folder = output_dir or tmp_path / "out"
        main(["fit", f"--output_dir={folder}", *fit_flags, *flags])
        return folder

    return run


@pytest.fixture(scope="session")
def finished_run(
    tiny_model: Path, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> FinishedRun:
    """The short fit of the tiny model, to read only. To change its files, take ``run_copy``."""
    return finish(tmp_path_factory.mktemp("finished"), tiny_model, pytestconfig)


@pytest.fixture(scope="session")
def finished_minilm_run(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> FinishedRun:
    """Three steps with real weights, to read only.

    The cosines of a random model lie so close together that rounding swaps ranks.
    """
    flags = ["--trainer.max_steps=3", "--learning_rate=2e-5"]
    return finish(tmp_path_factory.mktemp("minilm"), tiny.MINILM, pytestconfig, *flags)


@pytest.fixture
def run_copy(finished_run: FinishedRun, tmp_path: Path) -> Path:
    """A copy of the finished run in the folder of ``fit``: as after ``fit()``, to change freely.

    To resume a run, call ``fit``: this checkpoint still names the folder that it was copied from.
    """
    return Path(shutil.copytree(finished_run.folder, tmp_path / "out"))


@pytest.fixture
def without_dropout(tiny_model: Path, tmp_path: Path) -> list[str]:
    """A base model without dropout: each rank draws its own masks, unlike one process."""
    folder = tmp_path / "without-dropout"
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return [f"--base_model={folder}"]
