"""The texts of rows, read again from the files: a run keeps only numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embedft.errors import InputError
from embedft.table.jsonl import stream_records
from embedft.table.keys import Ints
from embedft.table.read_report import ReadCounts
from embedft.table.record import Record

if TYPE_CHECKING:
    from embedft.data.datamodule import EmbeddingDataModule


class Document(NamedTuple):
    """A text of the corpus, and the file that it is from; empty if the row names none."""

    text: str
    file_name: str


def stream_rows(data: EmbeddingDataModule, path: str | None = None) -> Iterator[Record]:
    """The valid rows of a file in its order, including duplicates; ``input_jsonl`` by default.

    Raises:
        InputError: At the end: the file has changed since it was loaded.
    """
    path = path or data.input_jsonl
    digest = hashlib.sha256()
    yield from stream_records(
        path, ReadCounts(path), context_required=data.positive == "context", digest=digest
    )
    if not digest.hexdigest().startswith(data.digests[path]):
        raise InputError(
            f"{path}: changed during the run, so rows can no longer be identified. Restore the "
            "original file, or start again with this one"
        )


def query_rows(data: EmbeddingDataModule) -> list[Record]:
    """The row of each held-out question, in the order of the task."""
    wanted = set(data.task.source_rows.tolist())
    stream = stream_rows(data, data.validation_jsonl)
    found = {index: row for index, row in enumerate(stream) if index in wanted}
    return [found[index] for index in data.task.source_rows.tolist()]


def pair_ids(data: EmbeddingDataModule, pairs: Ints) -> list[str]:
    """The ids of the rows of these training pairs, in file order."""
    wanted = set(data.pairs.source_row[pairs].tolist())
    return [row.id for index, row in enumerate(stream_rows(data)) if index in wanted]


def documents(data: EmbeddingDataModule, indices: Iterable[int]) -> dict[int, Document]:
    """Documents of the corpus by their index in it."""
    index_of = {int(data.task.corpus[index]): index for index in indices}
    texts = np.fromiter(index_of, dtype=np.int64)
    found: dict[int, Document] = {}
    paths = data.input_jsonl, data.validation_jsonl
    for pairs, path in zip(data.fit_data.searched_pairs, paths, strict=True):
        pairs_of_row: dict[int, list[int]] = {}
        for pair in np.flatnonzero(np.isin(pairs.positive, texts)).tolist():
            pairs_of_row.setdefault(int(pairs.source_row[pair]), []).append(pair)
        for number, row in enumerate(stream_rows(data, path)) if pairs_of_row else ():
            for pair in pairs_of_row.get(number, ()):
                # If a row gives both, its context comes second.
                is_second = pair > 0 and pairs.source_row[pair - 1] == number
                is_context = data.positive == "context" or is_second
                text = row.context if is_context else row.answer
                found.setdefault(index_of[int(pairs.positive[pair])], Document(text, row.file_name))
    return found
