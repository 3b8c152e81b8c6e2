from __future__ import annotations

from pathlib import Path

import pytest
from oracle import read_records

from scripts.docstring_pairs import main


def test_pairs_of_a_package(tmp_path: Path) -> None:
    """Good rows, each once, of this package's own files; the same bytes again."""
    first, again = tmp_path / "first.jsonl", tmp_path / "again.jsonl"
    for path in (first, again):
        main(["--output_jsonl", str(path), "embedft", "embedft"])
    assert first.read_bytes() == again.read_bytes()
    rows, reading = read_records(first)
    assert reading.valid == reading.rows == len(rows) > 10
    assert len({(row.question, row.answer) for row in rows}) == len(rows)
    losses = "embedft/losses/multiple_negatives_ranking.py"
    (ranking,) = (row for row in rows if row.file_name == losses and "L = " in row.answer)
    assert ranking.question.startswith("Each anchor must rank its positive")
    assert not ranking.answer.startswith(ranking.question)
    assert max(len(row.answer) for row in rows) <= 2000


def test_a_package_that_is_not_installed(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    with pytest.raises(SystemExit, match="nowhere: no such package is installed"):
        main(["--output_jsonl", str(path), "embedft", "nowhere"])
    assert not path.exists()
