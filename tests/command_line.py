"""Runs command lines within the test and reads what they print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import yaml

from embedft.cli.main import main

Capture = pytest.CaptureFixture[str]

OLDER_CONFIG: dict[str, Any] = {
    "input_jsonl": "a.jsonl",
    "output_dir": "o",
    "base_model": "m",
    "max_seq_length": 128,
    "num_epochs": 2,
    "train_batch_size": 4,
    "eval_batch_size": 5,
    "learning_rate": 3e-5,
    "warmup_steps": 100,
    "train_split": 0.85,
    "loss_function": "MultipleNegativesRankingLoss",
    "evaluation_steps": 500,
}
"""A config as the older tool wrote it: flat JSON."""


def fails(args: Sequence[str], capsys: Capture) -> str:
    """The one-line message of a command line that is refused as wrong input."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as error:
        main(list(args))
    assert error.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("embedft: error: ")
    return message.removeprefix("embedft: error: ").rstrip("\n")


def printed(args: Sequence[str], capsys: Capture) -> str:
    """The output of a command line that only prints."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as error:
        main(list(args))
    assert error.value.code == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def printed_config(args: Sequence[str], capsys: Capture) -> dict[str, Any]:
    """The settings that a command line means."""
    config = yaml.safe_load(printed([*args, "--print_config"], capsys))
    assert isinstance(config, dict)
    return config


def output_lines(args: Sequence[str], capsys: Capture) -> list[str]:
    """What a command line that ends well prints, by line."""
    capsys.readouterr()
    main(list(args))
    return capsys.readouterr().out.splitlines()
