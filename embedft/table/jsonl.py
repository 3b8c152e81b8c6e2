"""JSONL to validated records: every bad row is named by file, line and field."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Protocol

from embedft.errors import InputError
from embedft.table.read_report import ReadCounts
from embedft.table.record import Record as Record
from embedft.table.record import RowError, parse_row
from embedft.table.record import normalize_text as normalize_text

OnBadRows = Literal["error", "skip"]

_BOM = b"\xef\xbb\xbf"
_CHUNK = 1 << 20


class Digest(Protocol):
    """The part of a hash object of ``hashlib`` that reading needs."""

    def update(self, data: bytes, /) -> None:
        """Goes on with more bytes."""


def stream_records(
    path: str | Path,
    report: ReadCounts,
    *,
    context_required: bool = False,
    digest: Digest | None = None,
) -> Iterator[Record]:
    """Yields the good rows of a file in its order, and counts all of them in ``report``.

    Args:
        path: The file.
        report: Counts.
        context_required: A row without a context is a bad row.
        digest: Gets every byte of the file.
    """
    for number, line, is_cut in numbered_lines(Path(path), digest):
        report.rows += 1
        try:
            yield parse_row(line, number, context_required, is_cut)
        except RowError as bad:
            report.add_problem(number, str(bad))


def numbered_lines(path: Path, digest: Digest | None = None) -> Iterator[tuple[int, bytes, bool]]:
    """Yields the lines of a file that are not blank: number from 1, bytes, and if it has no end.

    Raises:
        InputError: The file can't be read.
    """
    number = 0
    for block in byte_blocks(path, _CHUNK, digest):
        for line, is_cut in lines_of(block):
            number += 1
            if line is not None:
                yield number, line, is_cut


def read_records(
    path: str | Path,
    on_bad_rows: OnBadRows = "error",
    *,
    drop_duplicates: bool = True,
    context_required: bool = False,
) -> tuple[list[Record], ReadCounts]:
    r"""Reads and validates a JSONL file of question/answer pairs into a list.

    The file is a stream of bytes split on ``\n`` alone (RFC 8259 texts may hold U+2028). A UTF-8
    byte order mark, ``\r\n`` and blank lines are accepted. For files of any size see
    :func:`embedft.table.table.read_table`.

    Args:
        path: The file.
        on_bad_rows: ``error`` refuses a file with bad rows, ``skip`` leaves them out.
        drop_duplicates: Keep the first of rows that agree in every field but ``id``.
        context_required: A row without a context is a bad row.

    Returns:
        The records in file order, and the report.

    Raises:
        InputError: The file can't be read, has bad rows under ``error``, or no good row.
    """
    report = ReadCounts(str(path))
    records = list(stream_records(path, report, context_required=context_required))
    report.check(len(records), refuse_bad_rows=on_bad_rows == "error")
    if drop_duplicates:
        kept = {record[2:-1]: record for record in reversed(records)}  # the first of each stays
        report.duplicates = len(records) - len(kept)
        records = sorted(kept.values(), key=lambda record: record.line)
    labelled = sum(record.label is not None for record in records)
    if labelled < len(records):
        first = next(record.line for record in records if record.label is None)
        report.check_labels(labelled, len(records), first)
    questions = {normalize_text(record.question) for record in records}
    answers = {normalize_text(record.answer) for record in records}
    report.repeated_questions = len(records) - len(questions)
    report.repeated_answers = len(records) - len(answers)
    return records, report


def byte_blocks(path: Path, size: int, digest: Digest | None = None) -> Iterator[bytes]:
    r"""Yields a file in blocks of about ``size`` bytes, each but the last ending with a ``\n``.

    Args:
        path: The file.
        size: Bytes read at a time; a longer line makes a longer block.
        digest: Gets every byte of the file.

    Raises:
        InputError: The file can't be read.
    """
    try:
        with path.open("rb") as stream:
            parts: list[bytes] = []
            first = True
            while chunk := stream.read(size):
                if digest is not None:
                    digest.update(chunk)
                if first:
                    chunk, first = chunk.removeprefix(_BOM), False
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
    """Refuses what can be read but once.

    Raises:
        InputError: It is a pipe or a device.
    """
    if Path(path).exists() and not (Path(path).is_file() or Path(path).is_dir()):
        raise InputError(
            f"{path}: is a pipe or device, and rows are read again later; write them into a file"
        )


def unreadable_error(path: Path, error: OSError, flag: str = "--input_jsonl") -> InputError:
    """Why the file of a flag can't be read, in words."""
    match error:
        case FileNotFoundError():
            return InputError(f"{path}: no such file; check {flag}")
        case IsADirectoryError():
            return InputError(f"{path}: is a folder; give a JSONL file")
        case _:
            return InputError(f"{path}: can't be read: {error.strerror or error}")


def lines_of(block: bytes) -> Iterator[tuple[bytes | None, bool]]:
    """Yields of each line its bytes without the line end, None if blank, and if it has no end."""
    lines = block.split(b"\n")
    last = lines.pop()
    for line in lines:
        body = line.rstrip(b"\r")
        yield (body if body.strip() else None), False
    if last:
        body = last.rstrip(b"\r")
        yield (body if body.strip() else None), True
