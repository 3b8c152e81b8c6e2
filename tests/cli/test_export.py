"""Flags of ``export`` that do not fit together. What it writes is in tests/export."""

from __future__ import annotations

import shlex

import pytest
from command_line import Capture, fails


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("", "give either --ckpt_path FILE, or --model FOLDER"),
        ("--ckpt_path a --model b", "give either --ckpt_path FILE, or --model FOLDER"),
        ("--model a --output_dir b", "--output_dir and --base_model go with --ckpt_path"),
        ("--ckpt_path a --private", "--dry_run and --private need --push_to_hub"),
        ("--model a", "with --model, say what to do: --push_to_hub ORG/NAME, or --onnx"),
        ("--ckpt_path a", "give --output_dir FOLDER, or --push_to_hub ORG/NAME"),
        ("--model nowhere --onnx", "model: nowhere: no such folder"),
    ],
)
def test_flags_that_do_not_fit_together(flags: str, message: str, capsys: Capture) -> None:
    assert fails(["export", *shlex.split(flags)], capsys).startswith(message)
