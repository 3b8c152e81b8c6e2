"""Runs the command ``generate`` for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from embedft.cli.main import main

KEY = "sk-secret-0123456789"


def run(papers: Path, *flags: str) -> Path:
    output = papers.parent / "made" / "pairs.jsonl"
    main(
        [
            "generate",
            f"--input_dir={papers}",
            f"--output_jsonl={output}",
            "--min_chars=20",
            "--timeout=5",
            *flags,
        ]
    )
    return output


def failing(capsys: pytest.CaptureFixture[str], papers: Path, *flags: str) -> tuple[Any, str]:
    """Exit status and the last line of a run that ends badly; that line is the error's only one."""
    with pytest.raises(SystemExit) as raised:
        run(papers, *flags)
    said = capsys.readouterr().err.strip().splitlines()
    assert sum("embedft: error: " in line for line in said) == 1, said
    assert "Traceback" not in "".join(said)
    return raised.value.code, said[-1]


def rows_of(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.read_text("utf-8").splitlines()]
