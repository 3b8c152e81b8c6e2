from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from embedft.inference.documents import DocumentFile, write_documents
from embedft.table.record import Record

RECORDS = [
    Record(line=1, id="a", question="q", answer="Yes.", file_name="one"),
    Record(line=1, id="b", question="r", answer="No\u2028way", file_name=""),
    Record(line=1, id="c", question="s", answer="yes.", file_name="two"),
    Record(line=1, id="d", question="t", answer="yes.", file_name="one"),
]


def read() -> Iterator[Record]:
    return iter(RECORDS)


def test_a_repeated_answer_is_one_document(tmp_path: Path) -> None:
    """With the ids of all its rows, and each of their files once."""
    write_documents(tmp_path, np.array([0, 1, 0, 0]), read, "answer")
    documents = DocumentFile(tmp_path)
    assert documents.is_complete
    assert [documents[index] for index in range(len(documents))] == [
        {"ids": ["a", "c", "d"], "file_names": ["one", "two"], "text": "Yes."},
        {"ids": ["b"], "file_names": [], "text": "No\u2028way"},
    ]


def test_a_truncated_file_is_incomplete(tmp_path: Path) -> None:
    write_documents(tmp_path, np.arange(4), read, "question")
    path = tmp_path / "documents.jsonl"
    path.write_bytes(path.read_bytes()[:-1])
    assert not DocumentFile(tmp_path).is_complete


@pytest.mark.parametrize("name", ["documents.jsonl", "offsets.npy"])
def test_missing_files(tmp_path: Path, name: str) -> None:
    write_documents(tmp_path, np.arange(4), read, "answer")
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError):
        DocumentFile(tmp_path)
