"""Twenty inputs that go wrong: each works, or ends with status 2 and one clear line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import sample_rows

from embedft.cli import main

ROWS = [json.dumps(row).encode() for row in sample_rows()[:30]]


def with_row(row: bytes) -> bytes:
    """A good file whose second row is this one."""
    return b"\n".join([ROWS[0], row, *ROWS[1:]]) + b"\n"


def changed(**values: object) -> bytes:
    return with_row(json.dumps(sample_rows()[40] | values).encode())


GOOD = b"\n".join(ROWS) + b"\n"
ONE_FILE = b"\n".join(json.dumps(row | {"file_name": "x"}).encode() for row in sample_rows()[:9])

# name: (content of the file, what the message says, {} standing for the file; None where it works)
INPUTS: dict[str, tuple[bytes | None, str | None]] = {
    "missing file": (None, "{}: no such file"),
    "empty file": (b"", "{}: no rows: the file is empty"),
    "not UTF-8": (changed(answer="Zürich").replace(b"\\u00fc", b"\xfc"), "{}:2: row: not UTF-8"),
    "byte order mark": (b"\xef\xbb\xbf" + GOOD, None),
    "CRLF": (GOOD.replace(b"\n", b"\r\n"), None),
    "NaN": (changed(score=float("nan")), "{}:2: row: holds NaN"),
    "null answer": (changed(answer=None), "{}:2: answer: is null"),
    "number as answer": (changed(answer=3), "{}:2: answer: is a number"),
    "empty string": (changed(question=""), "{}:2: question: is empty"),
    "only spaces": (changed(answer=" \t "), "{}:2: answer: is empty"),
    "duplicate keys": (
        with_row(b'{"question": "q", "answer": "a", "answer": "b"}'),
        "{}:2: answer: stands more than once",
    ),
    "lone surrogate": (changed(answer="\ud83d broken"), "{}:2: answer: holds half a surrogate"),
    "truncated last line": (GOOD[:-30], "{}:30: row: not valid JSON"),
    "array instead of object": (with_row(b'["q", "a"]'), "{}:2: row: is an array"),
    "a 5 MB line": (changed(answer="long " * 1_000_000), None),
    "U+2028 inside a text": (
        with_row('{"question": "two\u2028lines", "answer": "one\u2029row"}'.encode()),
        None,
    ),
    "one row": (ROWS[0], "1 row(s) are too few"),
    "all rows in one file": (ONE_FILE, "all 9 rows share files, questions or answers"),
}


@pytest.mark.parametrize("name", INPUTS)
def test_input_file(
    fit_flags: list[str], pairs: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    content, message = INPUTS[name]
    pairs.unlink()
    if content is not None:
        pairs.write_bytes(content)
    out = tmp_path / "out"
    args = ["fit", f"--output_dir={out}", *fit_flags, "--epochs=1"]
    if message is None:
        main(args)
        assert (out / "best_model" / "model.safetensors").is_file()
        return
    refuse(args, message.format(pairs), capsys)
    assert not out.exists()


def refuse(args: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        main(args)
    assert error.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"embedft: error: {message}")
    assert said.count("\n") == 1


def test_unwritable_output_folder(
    fit_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Below a regular file, where not even root can write."""
    (tmp_path / "file").write_text("precious")
    out = tmp_path / "file" / "out"
    refuse(["fit", f"--output_dir={out}", *fit_flags], f"{out}: can't be written: ", capsys)
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_output_folder_without_permission(
    fit_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path.chmod(0o500)
    try:
        out = tmp_path / "out"
        refuse(["fit", f"--output_dir={out}", *fit_flags], f"{out}: can't be written: ", capsys)
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("name", ["no/such-model", "no-such-model", "./no/such/folder"])
def test_base_model_not_found(
    fit_flags: list[str], tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["fit", f"--output_dir={tmp_path}/out", *fit_flags, f"--base_model={name}"]
    refuse(args, f"base_model {name}: not found: ", capsys)
    assert not (tmp_path / "out").exists()


def test_bad_rows_can_be_skipped(
    fit: Callable[..., Path], pairs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs.write_bytes(with_row(b"{}"))
    out = fit("--epochs=1", "--data.on_bad_rows=skip")
    said = capsys.readouterr().out
    assert "31 rows read, 30 valid, 1 skipped" in said
    assert f"{pairs}:2: question: missing" in said
    assert json.loads((out / "metrics.json").read_text())["data"]["rows_skipped"] == 1


@pytest.mark.slow
def test_no_traceback_in_a_shell(fit_flags: list[str], pairs: Path, tmp_path: Path) -> None:
    pairs.write_bytes(b"[]\n")
    command = [sys.executable, "-m", "embedft", "fit", *fit_flags, f"--output_dir={tmp_path}/out"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr == (
        f"embedft: error: {pairs}:1: row: is an array, must be an object with question and answer\n"
    )
