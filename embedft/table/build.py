"""The one pass over a file that makes the columns of a table."""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from embedft.table.block import Block
from embedft.table.columns import ColumnFiles, column_path, stored_name
from embedft.table.jsonl import byte_blocks
from embedft.table.keys import NO_HASH, Hashes, Ints, Mask, first_equal, repeats, text_hashes
from embedft.table.read_report import MAX_REPORTED, ReadCounts
from embedft.table.settings import ReadSettings, Target
from embedft.table.workers import read_blocks
from embedft.tools.files import checksum
from embedft.tools.progress import progress

META = "table.json"
BLOCK_BYTES = 4 << 20  # about ten thousand rows: what a process holds as text at a time
LARGE_FILE = 32 << 20  # bytes from which on several processes are faster, including their start

_TEXTS: dict[Target, list[str]] = {
    "answer": ["question", "answer", "negative"],
    "context": ["question", "context", "negative"],
    "both": ["question", "answer", "context", "negative"],
}


def build_table(
    path: Path,
    settings: ReadSettings,
    folder: Path,
    *,
    refuse_bad_rows: bool,
    block_bytes: int,
    workers: int | None,
) -> str:
    """Reads a file into the columns in a folder.

    Args:
        path: The file.
        settings: What is read and how it is tokenised.
        folder: An empty folder.
        refuse_bad_rows: Refuse a file with a bad row.
        block_bytes: Bytes read at a time.
        workers: As for :func:`~embedft.table.table.read_table`.

    Returns:
        The digest of the file's bytes.

    Raises:
        InputError: The file can't be read or used.
        OSError: The folder can't be written.
    """
    if workers is None:
        large = path.is_file() and path.stat().st_size >= LARGE_FILE
        workers = _cores() if large else 0
    digest = hashlib.sha256()
    read = ReadCounts(str(path))
    columns = ColumnFiles(folder)
    try:
        blocks = _with_progress(byte_blocks(path, block_bytes, digest), path)
        counts = _append_all(read_blocks(blocks, settings, workers), columns, read, settings)
        read.check(counts["rows"], refuse_bad_rows=refuse_bad_rows)
        counts |= _finish(columns, settings)
    finally:
        columns.close()
    counts |= {
        "rows_read": read.rows,
        "skipped": read.skipped,
        "bad_rows": read.bad_rows,
        "columns": columns.layout,
    }
    counts["checksums"] = {name: checksum(column_path(folder, name)) for name in columns.layout}
    write_meta(folder, counts)
    return digest.hexdigest()[:24]


def write_meta(folder: Path, counts: dict[str, Any]) -> None:
    """Writes what a table's files are, with a checksum of that."""
    text = json.dumps(counts)
    content = {"counts": counts, "checksum": zlib.crc32(text.encode())}
    (folder / META).write_text(json.dumps(content), encoding="utf-8")


def read_meta(folder: Path, *, verify: bool = True) -> dict[str, Any]:
    """What :func:`write_meta` wrote.

    Args:
        folder: Of a table.
        verify: Whether to read the files and compare them with the checksums that it names.

    Raises:
        ValueError: The files are damaged, or of an earlier version; or an OSError, KeyError or
            TypeError.
    """
    content = json.loads((folder / META).read_text(encoding="utf-8"))
    counts: dict[str, Any] = content["counts"]
    if zlib.crc32(json.dumps(counts).encode()) != content["checksum"]:
        raise ValueError(f"{folder}: {META} is damaged")
    sums = counts.pop("checksums")
    if sums.keys() != counts["columns"].keys():
        raise ValueError(f"{folder}: files without a checksum")
    for name, expected in sums.items() if verify else ():
        if checksum(column_path(folder, name)) != expected:
            raise ValueError(f"{folder}: {name} is damaged")
    return counts


def _with_progress(blocks: Iterable[bytes], path: Path) -> Iterator[bytes]:
    is_plain = path.is_file() and not path.name.endswith((".gz", ".csv", ".tsv"))
    total = path.stat().st_size if is_plain else None  # otherwise other bytes are read
    name = f"reading and tokenising {path.name}"
    with progress(total=total, desc=name, unit="B", unit_scale=True) as bar:
        for block in blocks:
            yield block
            bar.update(len(block))


def _append_all(
    blocks: Iterable[Block], columns: ColumnFiles, read: ReadCounts, settings: ReadSettings
) -> dict[str, Any]:
    """Appends block after block; lines and texts are numbered through all blocks."""
    fields = ["question_hash", "answer_hash", "file_hash", "row_hash", "label", "text_hash", "cut"]
    fields += ["ids", "negatives", "negative_hash", "id_hash"]
    if settings.documents != "answer":
        fields.append("context_hash")
    lines = rows = texts = tokens = first_without_label = 0
    columns.append("offsets", np.zeros(1, dtype=np.int64))
    for block in blocks:
        for field in fields:
            columns.append(stored_name(field), getattr(block, field))
        for name in _TEXTS[settings.documents]:
            text: Ints = getattr(block, name)
            columns.append(name, np.where(text < 0, -1, text + texts))
        columns.append("line", block.line + lines)
        columns.append("offsets", tokens + np.cumsum(block.lengths, dtype=np.int64))
        read.rows += block.rows
        read.skipped += block.skipped
        space = MAX_REPORTED - len(read.bad_rows)
        read.bad_rows += [(lines + line, what) for line, what in block.bad_rows[:space]]
        if block.first_without_label and not first_without_label:
            first_without_label = lines + block.first_without_label
        lines += block.lines
        rows += len(block.question)
        texts += len(block.cut)
        tokens += len(block.ids)
    return {"rows": rows, "first_without_label": first_without_label}


def _finish(columns: ColumnFiles, settings: ReadSettings) -> dict[str, Any]:
    """Finds what is equal across blocks; all equal texts get the index of the first one."""
    text_hash = columns.read("text_key")
    if repeats(text_hash).any():
        first = first_equal(text_hash)
        for name in _TEXTS[settings.documents]:
            text = columns.read(name)
            columns.replace(name, np.where(text < 0, -1, first[text]))
    duplicate = repeats(columns.read("row_key"))
    columns.append("duplicate", duplicate)
    same_ids = _same_ids(columns.read("id_key"), columns.read("line"), duplicate)
    for name in ("text_key", "row_key", "id_key", "line"):
        columns.remove(name)
    if np.isnan(columns.read("label")).all():
        columns.remove("label")
    if not len(columns.read("negative")):
        for name in ("negatives", "negative", "negative_key"):
            columns.remove(name)
    return {
        "same_ids": same_ids,
        "duplicates": int(duplicate.sum()),
        "distinct_questions": int((~repeats(columns.read("question_key"))).sum()),
        "distinct_answers": int((~repeats(columns.read("answer_key"))).sum()),
    }


def _same_ids(id_hash: Hashes, line: Ints, duplicate: Mask) -> list[int]:
    """Rows with the id of an earlier row: how many, the line of the first, and of that earlier one.

    Empty if there are none. The id of a row without one is its line number. Exact duplicates don't
    count.
    """
    without = id_hash == NO_HASH
    if without.all():
        return []
    ids = id_hash.copy()
    ids[without] = text_hashes(map(str, line[without].tolist()))
    repeated = np.flatnonzero(repeats(ids) & ~duplicate)
    if not len(repeated):
        return []
    earlier = np.flatnonzero(ids == ids[repeated[0]])[0]
    return [len(repeated), int(line[repeated[0]]), int(line[earlier])]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
