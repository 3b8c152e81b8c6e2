from __future__ import annotations

import re
from pathlib import Path

import pytest
from check_output import Capture, Flags, check_output, odd_rows, refusal_of
from tiny import sample_rows, write_jsonl

from embedft.check.measures import measure_data
from embedft.check.sections import advice_section, data_section, duration, examples_section
from embedft.report.page import HtmlTable


def test_bad_rows_are_all_named_or_counted(tmp_path: Path, small: Flags, capsys: Capture) -> None:
    pairs = write_jsonl(
        tmp_path / "pairs.jsonl", [*sample_rows()[:40], *[{"question": "q"} for _ in range(23)]]
    )
    text, error = refusal_of([str(pairs), *small], capsys)
    named = re.findall(rf"^{pairs}:(\d+): answer: missing", text, re.MULTILINE)
    assert named == [str(line) for line in range(41, 61)]
    assert "... and 3 more bad rows" in text
    assert f"{pairs}: 63 rows, 23 bad, 40 used" in text
    assert "| trained on " in text  # and what fit would do without them
    assert error.startswith(f"{pairs}: 23 of 63 rows are bad, so fit refuses it")
    assert "--on_bad_rows skip" in error
    assert "23 bad" in check_output([str(pairs), *small, "--on_bad_rows=skip"], capsys)


def test_rows_that_share_an_id_are_named(tmp_path: Path, small: Flags, capsys: Capture) -> None:
    rows = [
        {name: value for name, value in row.items() if name != "id"} for row in sample_rows()[:40]
    ]
    pairs = write_jsonl(tmp_path / "pairs.jsonl", [*rows[:3], rows[3] | {"id": "5"}, *rows[4:]])
    text = check_output([str(pairs), *small], capsys)
    assert text.count(f"warning: {pairs}:5: id: duplicate id (same as line 4; the id") == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "1 s"),
        (89, "89 s"),
        (91, "2 min"),
        (5399, "90 min"),
        (5400, "1.5 h"),
        (36000, "10.0 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_command_to_train_only_for_a_usable_file() -> None:
    assert "python -m embedft fit" in advice_section(["a"], can_train=True).as_text()
    assert advice_section(["a"], can_train=False).as_text() == "\nADVICE\n- a"


def test_examples_are_the_lines_of_the_issues(tmp_path: Path) -> None:
    rows = odd_rows()
    data = measure_data(str(write_jsonl(tmp_path / "pairs.jsonl", rows)), "answer", None)
    (table,) = examples_section(data).blocks
    assert isinstance(table, HtmlTable)
    shown = {str(name): str(question) for name, question, _ in table.rows}
    assert shown["questions copied from the answer: line 25"] == rows[24]["question"]
    assert {"exact duplicates, dropped: line 1", "exact duplicates, dropped: line 21"} <= set(shown)


def test_labels_are_counted(tmp_path: Path) -> None:
    rows = [row | {"label": i / 4} for i, row in enumerate(sample_rows()[:5])]
    data = measure_data(str(write_jsonl(tmp_path / "pairs.jsonl", rows)), "answer", None)
    text = data_section(data, 0).as_text()
    assert "labels: 3 rows with 0.5 or more (relevant answers), 2 with less, 0 without" in text
