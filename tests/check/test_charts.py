from __future__ import annotations

from pathlib import Path

from check_output import odd_rows
from tiny import write_jsonl

from embedft.check.charts import charts
from embedft.check.measures import measure_data


def test_a_chart_for_all_that_there_is(tmp_path: Path) -> None:
    """No lengths without a tokenizer, no files without names, no languages if there is only one."""
    rows = odd_rows()
    data = measure_data(str(write_jsonl(tmp_path / "pairs.jsonl", rows)), "answer", None)
    files, copied, languages = [image.caption for image in charts(data, 0)]
    assert files == "Number of files by their number of pairs; 5 files."
    assert copied.endswith("70% is copied.")
    assert languages.startswith("Languages of the sampled rows")
    rows = [{"question": row["question"], "answer": row["answer"]} for row in rows[:20]]
    data = measure_data(str(write_jsonl(tmp_path / "pairs.jsonl", rows)), "answer", None)
    assert [image.caption for image in charts(data, 0)] == [copied]
