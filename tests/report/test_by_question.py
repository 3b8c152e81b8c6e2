from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from report_data import record

from embedft.report.by_question import by_file, write_by_question

ROWS = [record(index) for index in range(4)]
NDCG = {"base": np.array([0, 1, 0.5, 0.25]), "best": np.array([1, 1, 0.5, 0])}


def test_a_line_per_question(tmp_path: Path) -> None:
    path = tmp_path / "metrics_by_question.jsonl"
    write_by_question(path, ROWS, NDCG)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["id"] for line in lines] == ["id0", "id1", "id2", "id3"]
    assert lines[3] == {
        "id": "id3",
        "file_name": "1.pdf",
        "question": "question 3?",
        "ndcg@10": {"base": 0.25, "best": 0.0},
    }


def test_means_of_each_file() -> None:
    files = by_file(ROWS, NDCG)
    assert list(files) == ["0.pdf", "1.pdf"]
    assert files["1.pdf"]["questions"] == 2
    assert files["1.pdf"]["ndcg@10"] == pytest.approx({"base": 0.375, "best": 0.25})


def test_rows_without_a_file_are_left_out() -> None:
    row = record(0)._replace(file_name="")
    assert by_file([row], {"base": np.ones(1)}) == {}
