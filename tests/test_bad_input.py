"""Unusual inputs that work, bad rows that are skipped, and errors as a shell sees them.

Inputs that are refused are in test_hostile.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import sample_rows

ROWS = [json.dumps(row).encode() for row in sample_rows()[:30]]
GOOD = b"\n".join(ROWS) + b"\n"


def with_row(row: bytes) -> bytes:
    """A good file whose second row is this one."""
    return b"\n".join([ROWS[0], row, *ROWS[1:]]) + b"\n"


UNUSUAL = {
    "byte order mark": b"\xef\xbb\xbf" + GOOD,
    "CRLF": GOOD.replace(b"\n", b"\r\n"),
    "a 5 MB line": with_row(json.dumps(sample_rows()[40] | {"answer": "long " * 10**6}).encode()),
    "U+2028 inside a text": with_row(
        '{"question": "two\u2028lines", "answer": "one\u2029row"}'.encode()
    ),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_files_work(fit: Callable[..., Path], pairs: Path, name: str) -> None:
    pairs.write_bytes(UNUSUAL[name])
    assert (fit("--epochs=1") / "best_model" / "model.safetensors").is_file()


@pytest.mark.parametrize("flag", ["--on_bad_rows=skip", "--data.on_bad_rows=skip"])
def test_bad_rows_can_be_skipped(
    fit: Callable[..., Path], pairs: Path, capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    pairs.write_bytes(with_row(b"{}"))
    out = fit("--epochs=1", flag)
    said = capsys.readouterr().out
    assert "31 rows read, 30 valid, 1 skipped" in said
    assert f"\nwarning: {pairs}:2: question: missing" in said
    assert json.loads((out / "metrics.json").read_text())["data"]["rows_skipped"] == 1


@pytest.mark.slow
def test_no_traceback_in_a_shell(fit_flags: list[str], pairs: Path, tmp_path: Path) -> None:
    pairs.write_bytes(b"[]\n")
    command = [sys.executable, "-m", "embedft", "fit", *fit_flags, f"--output_dir={tmp_path}/out"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr == (
        f"embedft: error: {pairs}:1: row: is an array, must be an object with question and answer; "
        'give JSONL, a line {"question": "...", "answer": "..."} for each pair\n'
    )
