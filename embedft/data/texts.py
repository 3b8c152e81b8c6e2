"""Rows in words, read again from the files: a run itself keeps numbers alone."""

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
    """A text of the corpus, and the file it is from; empty where there is none."""

    text: str
    file_name: str


def stream_rows(data: EmbeddingDataModule, path: str | None = None) -> Iterator[Record]:
    """The good rows of a file, ``input_jsonl`` by default, in its order, duplicates included.

    Raises:
        InputError: At the end: it is not the file that was read before.
    """
    path = path or data.input_jsonl
    digest = hashlib.sha256()
    yield from stream_records(
        path, ReadCounts(path), context_required=data.positive == "context", digest=digest
    )
    if not digest.hexdigest().startswith(data.digests[path]):
        raise InputError(
            f"{path}: was changed while it was in use, so its rows can't be named; bring the file "
            "of before back, or start again with this one"
        )


def query_rows(data: EmbeddingDataModule) -> list[Record]:
    """The row of each held-out question, in the order of the task."""
    wanted = set(data.task.source_rows.tolist())
    stream = stream_rows(data, data.validation_jsonl)
    found = {index: row for index, row in enumerate(stream) if index in wanted}
    return [found[index] for index in data.task.source_rows.tolist()]


def ids_of(data: EmbeddingDataModule, pairs: Ints) -> list[str]:
    """The ids of some training pairs' rows."""
    wanted = set(data.pairs.source_row[pairs].tolist())
    return [row.id for index, row in enumerate(stream_rows(data)) if index in wanted]


def documents(data: EmbeddingDataModule, places: Iterable[int]) -> dict[int, Document]:
    """Some documents of the corpus by their place in it."""
    place_of = {int(data.task.corpus[place]): place for place in places}
    texts = np.fromiter(place_of, dtype=np.int64)
    found: dict[int, Document] = {}
    for rows, path in (
        (data.searched_pairs[0], data.input_jsonl),
        (data.searched_pairs[1], data.validation_jsonl),
    ):
        pairs_of_row: dict[int, list[int]] = {}
        for pair in np.flatnonzero(np.isin(rows.positive, texts)).tolist():
            pairs_of_row.setdefault(int(rows.source_row[pair]), []).append(pair)
        for index, row in enumerate(stream_rows(data, path)) if pairs_of_row else ():
            for pair in pairs_of_row.get(index, ()):
                # Of a row that gives both, the context comes second.
                second = pair > 0 and rows.source_row[pair - 1] == index
                is_context = data.positive == "context" or second
                text = row.context if is_context else row.answer
                place = place_of[int(rows.positive[pair])]
                found.setdefault(place, Document(text, row.file_name))
    return found
