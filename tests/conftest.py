from __future__ import annotations

import json
import logging
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
from safetensors.torch import load_file, save_file
from tiny import sample_rows, write_jsonl

# A shell's background jobs ignore Ctrl-C, and so would every process that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long comes first, so that no process has it to itself at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tokens are cached in a folder of this session, not in the user's."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def _log_as_found() -> Iterator[None]:
    """What a command within the process sets up for its log doesn't reach the next test."""
    log = logging.getLogger("embedft")
    level, handlers = log.level, list(log.handlers)
    yield
    log.setLevel(level)
    for handler in set(log.handlers) - set(handlers):
        handler.close()
    log.handlers[:] = handlers


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--accelerator", default="cpu", help="where test_resume.py and test_fit.py fit"
    )


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT in the sentence-transformers layout."""
    return tiny.build(tmp_path_factory.mktemp("models") / "tiny-bert")


@pytest.fixture(scope="session")
def telling_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny BERT with longer word vectors: all texts are alike to it else, and none is wrong."""
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
    """A short fit of the tiny model: 50 training rows, 7 batches an epoch, 2 epochs."""
    accelerator = pytestconfig.getoption("accelerator")
    exact = [] if accelerator == "cpu" else ["--trainer.deterministic=true"]
    return [
        *exact,
        f"--input_jsonl={pairs}",
        f"--base_model={tiny_model}",
        "--epochs=2",
        "--batch_size=8",
        "--learning_rate=1e-3",
        "--train_split=0.8",
        f"--accelerator={accelerator}",
        "--precision=32-true",
        "--trainer.enable_progress_bar=false",
        "--trainer.log_every_n_steps=1",
    ]


@pytest.fixture
def fit(fit_flags: list[str], tmp_path: Path) -> Callable[..., Path]:
    """Runs the short fit through the command line; returns its output folder."""
    from embedft.cli.main import main

    def run(*flags: str, output_dir: Path | None = None) -> Path:
        folder = output_dir or tmp_path / "out"
        main(["fit", f"--output_dir={folder}", *fit_flags, *flags])
        return folder

    return run


@pytest.fixture
def without_dropout(tiny_model: Path, tmp_path: Path) -> list[str]:
    """Each rank draws its own masks, so without them alone is one process the same."""
    folder = tmp_path / "without-dropout"
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return [f"--base_model={folder}"]
