from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from tiny import write_jsonl

from embedft.errors import InputError
from embedft.table.build import build_table, read_meta
from embedft.table.settings import ReadSettings


def build(path: Path, folder: Path, settings: ReadSettings) -> str:
    folder.mkdir()
    return build_table(path, settings, folder, refuse_bad_rows=True, block_bytes=64, workers=0)


def test_a_folder_holds_one_file_for_each_column(tmp_path: Path, settings: ReadSettings) -> None:
    rows = [{"question": f"q{i}", "answer": f"a{i // 2}", "context": "c"} for i in range(9)]
    path = write_jsonl(tmp_path / "p.jsonl", rows)
    digest = build(path, tmp_path / "table", settings)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()[:24]
    counts = read_meta(tmp_path / "table")
    assert (counts["rows"], counts["rows_read"], counts["duplicates"]) == (9, 9, 0)
    assert (counts["distinct_questions"], counts["distinct_answers"]) == (9, 5)
    files = {file.stem for file in (tmp_path / "table").glob("*.bin")}
    assert files == set(counts["columns"])
    assert "question_key" in files, "caches have always called a hash a key"
    assert not files & {"text_key", "row_key", "id_key", "line", "label", "negative"}


def test_a_file_without_rows_is_refused(tmp_path: Path, settings: ReadSettings) -> None:
    (tmp_path / "p.jsonl").write_text("\n\n")
    with pytest.raises(InputError, match="no rows: the file is empty"):
        build(tmp_path / "p.jsonl", tmp_path / "table", settings)
