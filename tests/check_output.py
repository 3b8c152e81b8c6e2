"""Runs ``check`` and reads what it prints."""

from __future__ import annotations

from typing import Any

import pytest
from tiny import sample_rows

from embedft.cli.main import main

Capture = pytest.CaptureFixture[str]
Flags = list[str]


def check_output(args: Flags, capsys: Capture) -> str:
    """What a successful check prints."""
    capsys.readouterr()
    main(["check", *args])
    return capsys.readouterr().out


def error_of(args: Flags, capsys: Capture) -> str:
    """The error message of a command line that is refused."""
    return refusal_of(args[1:], capsys, args[0])[1]


def refusal_of(args: Flags, capsys: Capture, command: str = "check") -> tuple[str, str]:
    """What a command line that ends with status 2 prints, and its message."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as error:
        main([command, *args])
    assert error.value.code == 2
    output = capsys.readouterr()
    return output.out, output.err.removeprefix("embedft: error: ").rstrip("\n")


def row_of(text: str, name: str) -> list[str]:
    """The cells after the first in a printed table."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {name} ")]
    return [cell.strip() for cell in line.split("|")[2:-1]]


def advice_lines(text: str) -> list[str]:
    """The lines of advice in a printed report."""
    return [line for line in text.splitlines() if line.startswith("- ")]


def odd_rows() -> list[dict[str, Any]]:
    """20 rows of four papers and 6 rows that each have one issue; lines are counted from 1."""
    rows = sample_rows()[:20]
    answer = rows[7]["answer"]
    rows[2]["question"] = (
        "In the study of these samples at low temperature, which of the three methods gave the "
        "best result of all?"
    )
    return [
        *rows,
        {**rows[0], "id": "another"},  # 21: but for the id, line 1
        {**rows[1], "question": rows[1]["question"].upper(), "file_name": "b.pdf"},  # 22: line 2
        {**rows[2], "question": f"{rows[2]['question']} Please?", "answer": "It does."},  # 23
        {"question": "What else is said here?", "answer": f"{answer} Indeed."},  # 24: line 8
        {"question": "What is a b c d e f g?", "answer": "What is a b c d e f is an h."},  # 25
        {"question": "Wie alt ist der Baum im Garten?", "answer": "Er ist hundert Jahre alt."},
    ]
