from __future__ import annotations

import pytest

from embedft.tools.text import (
    did_you_mean,
    error_line,
    file_label,
    one_line,
    plain_table,
    printable,
    without_secrets,
)


@pytest.mark.parametrize(
    ("text", "limit", "line"),
    [
        ("  one\n two\tthree ", None, "one two three"),
        ("one two", 7, "one two"),
        ("one two three", 7, "one tw…"),
        ("", 3, ""),
    ],
)
def test_one_line(text: str, limit: int | None, line: str) -> None:
    assert one_line(text, limit) == line


def test_error_line() -> None:
    error = ValueError("first\n  second")
    assert error_line(error) == "first second"
    assert error_line(error, first_line=True) == "first"
    assert error_line(error, 4) == "fir…"
    assert error_line(KeyError()) == "KeyError"


def test_did_you_mean_suggests_the_most_similar_name() -> None:
    known = ["batch_size", "epochs", "MultipleNegatives"]
    assert did_you_mean("batchsize", known) == "; did you mean batch_size?"
    assert did_you_mean("Epochs", known, "--") == "; did you mean --epochs?"
    assert did_you_mean("multiplenegatives", known) == "; did you mean MultipleNegatives?"
    assert did_you_mean("zzz", known) == ""
    assert did_you_mean("zzz", known, cutoff=0) != ""


def test_did_you_mean_never_repeats_what_was_typed() -> None:
    assert did_you_mean("epochs", ["epochs"]) == ""
    assert did_you_mean("epochs", ["epochs", "epoch"]) == "; did you mean epoch?"


def test_plain_table_aligns_its_columns() -> None:
    lines = plain_table(["name", "n"], [["a", "100"], ["long name", "1"]]).split("\n")
    assert lines == [
        "| name      | n   |",
        "|-----------|-----|",
        "| a         | 100 |",
        "| long name | 1   |",
    ]


def test_printable() -> None:
    assert printable("a\x1b[2J\n\u202eé") == "a\\x1b[2J\\n\\u202eé"
    assert printable("\udcff") == "\\udcff"
    assert len(printable("x" * 1000 + "end", 300)) == 300
    assert printable("x" * 1000 + "end", 300).endswith("end")


def test_file_label() -> None:
    assert file_label("/home/me/guard.jsonl") == "guard.jsonl"
    assert file_label("x/[a](http:b)\n<i>") == "_a_(http_b)__i_"


def test_secrets() -> None:
    text = "Bearer sk-1\r at http://me:pass@host/v1"
    assert without_secrets(text, "sk-1\r", None) == "Bearer *** at http://***@host/v1"
