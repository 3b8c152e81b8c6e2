"""A short fit, and a finished run that many tests read."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from tiny import sample_rows, write_jsonl


@contextlib.contextmanager
def log_restored() -> Iterator[None]:
    """Removes the log handlers that a command within this process adds."""
    log = logging.getLogger("embedft")
    level, handlers = log.level, list(log.handlers)
    yield
    log.setLevel(level)
    for handler in set(log.handlers) - set(handlers):
        handler.close()
    log.handlers[:] = handlers


def short_fit(pairs: Path, model: Path | str, config: pytest.Config) -> list[str]:
    """Flags of a short fit: 50 training rows, 7 batches an epoch, 2 epochs."""
    accelerator = config.getoption("accelerator")
    exact = [] if accelerator == "cpu" else ["--trainer.deterministic=true"]
    return [
        *exact,
        f"--input_jsonl={pairs}",
        f"--base_model={model}",
        "--epochs=2",
        "--batch_size=8",
        "--learning_rate=1e-3",
        "--train_split=0.8",
        f"--accelerator={accelerator}",
        "--precision=32-true",
        "--trainer.enable_progress_bar=false",
        "--trainer.log_every_n_steps=1",
    ]


METRICS = ("recall@1", "recall@5", "recall@10", "mrr@10", "ndcg@10", "map@100")


class FinishedRun(NamedTuple):
    """A run that many tests share: they only read its files.

    Attributes:
        folder: Its output folder.
        pairs: Its input file.
        printed: What it wrote to standard output.
    """

    folder: Path
    pairs: Path
    printed: str


def finish(folder: Path, model: Path | str, config: pytest.Config, *flags: str) -> FinishedRun:
    """Fits once, for a fixture of the session."""
    from embedft.cli.main import main

    pairs = write_jsonl(folder / "pairs.jsonl", sample_rows()[:60])
    out = folder / "out"
    arguments = ["fit", f"--output_dir={out}", *short_fit(pairs, model, config), *flags]
    with log_restored(), contextlib.redirect_stdout(io.StringIO()) as printed:
        main(arguments)
    return FinishedRun(out, pairs, printed.getvalue())


def assert_trained_as(same: Path, other: Path, out: Path) -> None:
    """A run ended with exactly the weights of ``same``, and not with those of ``other``."""
    weights = [load_file(f / "final_model" / "model.safetensors") for f in (out, same, other)]
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)
    assert any(not torch.equal(weights[0][name], weights[2][name]) for name in weights[0])
