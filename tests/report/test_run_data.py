from __future__ import annotations

from pathlib import Path

import pytest
from report_data import report_data, results

from embedft.report.run_data import rank_change, read_log


def test_change_counts_the_first_ranks_most() -> None:
    change = rank_change(results([7, 1, 100]), results([1, 2, 50]))
    assert change is not None
    assert change.tolist() == pytest.approx([6 / 7, -1 / 2, 1 / 100])
    assert rank_change(None, results([1])) is None
    assert rank_change(results([1]), None) is None


def test_models_that_were_not_measured_are_left_out() -> None:
    data = report_data(base=None, base_results=None)
    assert list(data.evaluations) == list(data.results) == ["tuned model"]
    assert data.change is None
    assert list(report_data().results) == ["base model", "tuned model"]


def test_log_is_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "training_metrics.jsonl"
    assert read_log(path) == []
    path.write_text('{"step": 1}\n{"step": 2, "train/loss": 0.5}\n')
    assert read_log(path) == [{"step": 1}, {"step": 2, "train/loss": 0.5}]
