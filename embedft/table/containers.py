r"""The bytes of a file as JSONL: plain, compressed by gzip, or a CSV or TSV table with a header.

A row of a table becomes the JSON object of its columns, on the line on which it starts: lines are
counted as in the file.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Protocol

from embedft.errors import InputError

_BOM = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_NUMBERS = ("label", "score")
_LISTS = ("negatives", "neg", "negative")
_LONGEST = 1 << 30  # characters of a field of a table

_OTHERS = {
    b"PAR1": (
        "is a Parquet file. Convert it: "
        "python -c \"import pandas; pandas.read_parquet('FILE').to_json('pairs.jsonl', "
        "orient='records', lines=True)\""
    ),
    b"PK\x03\x04": "is a ZIP archive or an Excel file. Save the table as CSV UTF-8",
    b"\xff\xfe": "is UTF-16. Convert it: iconv -f UTF-16 -t UTF-8 FILE > pairs.jsonl",
    b"\xfe\xff": "is UTF-16. Convert it: iconv -f UTF-16 -t UTF-8 FILE > pairs.jsonl",
}


class Digest(Protocol):
    """The part of a hash object of ``hashlib`` that reading needs."""

    def update(self, data: bytes, /) -> None:
        """Adds bytes."""


class _Digested(io.RawIOBase):
    """A stream whose bytes go through a digest as they are read."""

    def __init__(self, stream: IO[bytes], start: bytes, digest: Digest | None) -> None:
        self._stream, self._start, self._digest = stream, start, digest
        self._add(start)

    def _add(self, data: bytes) -> None:
        if self._digest is not None:
            self._digest.update(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data, self._start = self._start[: len(buffer)], self._start[len(buffer) :]
        if not data:
            data = self._stream.read(len(buffer))
            self._add(data)
        buffer[: len(data)] = data
        return len(data)


def jsonl_chunks(path: Path, size: int, digest: Digest | None = None) -> Iterator[bytes]:
    """Yields the rows of a file as JSONL, without a byte order mark.

    Args:
        path: The file.
        size: Bytes read at a time.
        digest: Gets every byte of the file.

    Raises:
        InputError: It is of another format, or damaged.
        OSError: It can't be read.
    """
    with path.open("rb") as file:
        start = file.read(4)
        for magic, what in _OTHERS.items():
            if start.startswith(magic):
                raise InputError(f"{path}: {what.replace('FILE', str(path))}")
        stream: IO[bytes] = io.BufferedReader(_Digested(file, start, digest), size)
        if start.startswith(_GZIP):
            stream = gzip.GzipFile(fileobj=stream)  # type: ignore[assignment]
        try:
            if delimiter := _delimiter(path):
                yield from _table(path, stream, delimiter, size)
                return
            first = True
            while chunk := stream.read(size):
                yield chunk.removeprefix(_BOM) if first else chunk
                first = False
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InputError(
                f"{path}: is a damaged gzip file ({error}). Was it copied completely?"
            ) from None


def _delimiter(path: Path) -> str | None:
    name = path.name.lower().removesuffix(".gz")
    return _DELIMITERS.get(Path(name).suffix)


def _table(path: Path, stream: IO[bytes], delimiter: str, size: int) -> Iterator[bytes]:
    csv.field_size_limit(_LONGEST)
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
    line = 1  # that was read last
    try:
        header, delimiter = _header(path, text.readline(), delimiter)
        reader = csv.reader(text, delimiter=delimiter, strict=True)
        part, length = [b"\n"] if header else [], 0
        for cells in reader:
            content = _object(path, line + 1, header, cells)
            content += b"\n" * (1 + reader.line_num - line)
            part.append(content)
            length, line = length + len(content), 1 + reader.line_num
            if length >= size:
                yield b"".join(part)
                part, length = [], 0
        yield b"".join(part)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: not UTF-8 (byte 0x{error.object[error.start]:02x}); save the table as CSV "
            "UTF-8"
        ) from None
    except csv.Error as error:
        raise InputError(f"{path}:{line + 1}: not a readable table: {error}") from None


def _header(path: Path, line: str, delimiter: str) -> tuple[list[str], str]:
    """The names of the columns, and what separates them: some Excels write semicolons."""
    if delimiter == "," and "," not in line and ";" in line:
        delimiter = ";"
    header = [name.strip() for name in next(csv.reader([line], delimiter=delimiter), [])]
    if twice := {name for name in header if name and header.count(name) > 1}:
        raise InputError(f"{path}:1: the header names {min(twice)} more than once; keep one")
    return header, delimiter


def _object(path: Path, line: int, header: list[str], cells: list[str]) -> bytes:
    if not any(cells):
        return b""
    if len(cells) > len(header):
        raise InputError(
            f"{path}:{line}: has {len(cells)} columns, the header has {len(header)}. Put texts "
            "with separators in quotes"
        )
    row: dict[str, Any] = {}
    for name, cell in zip(header, cells, strict=False):
        if not name or (not cell and name not in ("question", "answer")):
            continue  # an empty cell is no value
        row[name] = _value(name, cell)
    return json.dumps(row, ensure_ascii=False).encode()


def _value(name: str, cell: str) -> Any:
    try:
        if name in _NUMBERS:
            return float(cell)
        if name in _LISTS and cell.lstrip().startswith("["):
            return json.loads(cell)
    except ValueError:
        pass  # what reads the row says what is wrong
    return cell
