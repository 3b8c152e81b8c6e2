"""The distinct answers of a file with the rows that have them, on disk, read by index."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from embedft.table.keys import Ints
from embedft.table.record import Record


class DocumentFile:
    """Reads what :func:`write_documents` wrote.

    Args:
        folder: Folder of ``documents.jsonl`` and ``offsets.npy``.

    Raises:
        OSError: A file is missing.
        ValueError, EOFError: The offsets can't be read.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "documents.jsonl"
        self._offsets: Ints = np.load(folder / "offsets.npy", mmap_mode="r")
        self._size = self._path.stat().st_size

    def __len__(self) -> int:
        """The number of documents."""
        return len(self._offsets) - 1

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Ids, file names and text of a document."""
        with self._path.open("rb") as stream:
            stream.seek(int(self._offsets[index]))
            document: dict[str, Any] = json.loads(stream.readline())
        return document

    @property
    def is_complete(self) -> bool:
        """Whether all documents were written."""
        return bool(self._offsets[-1] == self._size)


def write_documents(
    folder: Path, first: Ints, read_records: Callable[[], Iterator[Record]], field: str
) -> None:
    """Writes ids, file names and text of each distinct answer, in the order of their first rows.

    Args:
        folder: Folder to write to.
        first: (rows,) for each row the first row with the same answer.
        read_records: Reads all rows; called twice.
        field: The field of a row that has the text.
    """
    repeated = set(first[first != np.arange(len(first))].tolist())
    sources: dict[int, list[tuple[str, str]]] = defaultdict(list)  # of repeated answers
    for first_row, record in zip(first.tolist(), read_records(), strict=False):
        if first_row in repeated:
            sources[first_row].append((record.id, record.file_name))
    offsets = [0]
    with (folder / "documents.jsonl").open("wb") as stream:
        for row, (first_row, record) in enumerate(
            zip(first.tolist(), read_records(), strict=False)
        ):
            if first_row != row:
                continue
            rows = sources.get(row, [(record.id, record.file_name)])
            document = {
                "ids": [row_id for row_id, _ in rows],
                "file_names": list(dict.fromkeys(name for _, name in rows if name)),
                "text": getattr(record, field),
            }
            line = json.dumps(document, ensure_ascii=False) + "\n"
            offsets.append(offsets[-1] + stream.write(line.encode()))
    np.save(folder / "offsets.npy", np.array(offsets, dtype=np.int64))
