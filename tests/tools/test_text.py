from __future__ import annotations

import pytest

from embedft.tools.text import did_you_mean, error_line, one_line, plain_table


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
