"""A JSONL file as bytes, lines and valid records."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Literal

from embedft.errors import InputError
from embedft.table.containers import Digest, jsonl_chunks
from embedft.table.layout import key_notes
from embedft.table.read_report import ReadCounts
from embedft.table.record import Record, RowError, parse_row

OnBadRows = Literal["error", "skip"]

_CHUNK = 1 << 20
_KEY_LINES = 100  # whose keys are looked at


def stream_records(
    path: str | Path,
    counts: ReadCounts,
    *,
    context_required: bool = False,
    digest: Digest | None = None,
) -> Iterator[Record]:
    """Yields the valid rows of a file in its order, and counts all rows in ``counts``.

    Args:
        path: The file.
        counts: Gets the numbers of rows and the first bad rows.
        context_required: A row without a context is a bad row.
        digest: Gets every byte of the file.
    """
    for number, line, is_unfinished in numbered_lines(Path(path), digest):
        counts.rows += 1
        try:
            yield parse_row(line, number, context_required, is_unfinished)
        except RowError as bad:
            counts.add_problem(number, str(bad))


def key_notes_of(path: str | Path) -> Iterator[tuple[bool, str]]:
    """The :func:`key_notes` of the first rows of a file."""
    lines = (line for _, line, _ in numbered_lines(Path(path)))
    return key_notes(islice(lines, _KEY_LINES))


def numbered_lines(path: Path, digest: Digest | None = None) -> Iterator[tuple[int, bytes, bool]]:
    """Yields the lines that are not blank: number from 1, bytes, and whether it is unfinished.

    Raises:
        InputError: The file can't be read.
    """
    number = 0
    for block in byte_blocks(path, _CHUNK, digest):
        for line, is_unfinished in lines_of(block):
            number += 1
            if line is not None:
                yield number, line, is_unfinished


def byte_blocks(path: Path, size: int, digest: Digest | None = None) -> Iterator[bytes]:
    r"""Yields a file in blocks of about ``size`` bytes; all but the last end with a ``\n``.

    Args:
        path: The file.
        size: Bytes read at a time; a longer line makes a longer block.
        digest: Gets every byte of the file.

    Raises:
        InputError: The file can't be read.
    """
    try:
        parts: list[bytes] = []
        for chunk in jsonl_chunks(path, size, digest):
            end = chunk.rfind(b"\n") + 1
            if end:
                yield b"".join([*parts, chunk[:end]])
                parts = [chunk[end:]]
            else:
                parts.append(chunk)
        if rest := b"".join(parts):
            yield rest
    except OSError as error:
        raise unreadable_error(path, error) from None


def refuse_pipe(path: str) -> None:
    """Refuses a file that can be read only once.

    Raises:
        InputError: It is a pipe or a device.
    """
    if Path(path).exists() and not (Path(path).is_file() or Path(path).is_dir()):
        raise InputError(
            f"{path}: is a pipe or device, but rows are read again later. Write them into a file"
        )


def unreadable_error(path: Path, error: OSError, flag: str = "--input_jsonl") -> InputError:
    """The error that says why the file of a flag can't be read."""
    match error:
        case FileNotFoundError():
            return InputError(f"{path}: no such file; check {flag}")
        case IsADirectoryError():
            return InputError(f"{path}: is a folder; give a JSONL file")
        case _:
            return InputError(f"{path}: can't be read: {error.strerror or error}")


def lines_of(block: bytes) -> Iterator[tuple[bytes | None, bool]]:
    """Yields the bytes of each line, None if blank, and whether the line has no line end."""
    lines = block.split(b"\n")
    last = lines.pop()
    for line in lines:
        body = line.rstrip(b"\r")
        yield (body if body.strip() else None), False
    if last:
        body = last.rstrip(b"\r")
        yield (body if body.strip() else None), True
