"""JSONL to validated records: every bad row is named by file, line and field."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn

from embedft.errors import InputError

TEXT_FIELDS = ("question", "answer")
OPTIONAL_TEXT_FIELDS = ("context", "file_name")
LABEL_FIELDS = ("label", "score")
MAX_REPORTED = 20

OnBadRows = Literal["error", "skip"]


@dataclass(frozen=True, slots=True)
class Record:
    """One row of the input.

    Attributes:
        line: Line number in the file, from 1.
        id: The row's own id, or its line number where it has none.
        question: The anchor text, stripped, never empty.
        answer: The answer text, stripped, never empty.
        context: The passage the answer comes from; empty where there is none.
        file_name: The document the pair comes from; empty where there is none.
        label: How well the pair fits, in [0, 1]; None where the file gives none.
    """

    line: int
    id: str
    question: str
    answer: str
    context: str = ""
    file_name: str = ""
    label: float | None = None


@dataclass(slots=True)
class ReadReport:
    """What reading a file found; counts of rows, or of texts where it says so."""

    path: str
    rows: int = 0
    skipped: int = 0
    duplicates: int = 0
    repeated_questions: int = 0
    repeated_answers: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def valid(self) -> int:
        """Rows that are used: read, neither bad nor dropped as duplicates."""
        return self.rows - self.skipped - self.duplicates

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.rows} rows read, {self.valid} valid, {self.skipped} skipped, "
            f"{self.duplicates} exact duplicates dropped, "
            f"{self.repeated_questions} repeated questions, "
            f"{self.repeated_answers} repeated answers"
        )


def normalize_text(text: str) -> str:
    """The form in which two texts count as the same: NFKC, case-folded, white space folded."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def read_records(
    path: str | Path,
    on_bad_rows: OnBadRows = "error",
    *,
    drop_duplicates: bool = True,
    context_required: bool = False,
) -> tuple[list[Record], ReadReport]:
    r"""Reads and validates a JSONL file of question/answer pairs.

    The file is a stream of bytes split on ``\n`` alone (RFC 8259 texts may hold U+2028). A UTF-8
    byte order mark, ``\r\n`` and blank lines are accepted.

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
    report = ReadReport(str(path))
    records: list[Record] = []
    seen: set[tuple[Any, ...]] = set()
    for line_number, line, is_cut in _lines(Path(path)):
        report.rows += 1
        try:
            record = _parse(line, line_number)
            if context_required and not record.context:
                raise _RowError("context: missing or empty, needed by --data.positive context")
        except _RowError as bad:
            report.skipped += 1
            if len(report.problems) < MAX_REPORTED:
                hint = " (the file ends inside this row: was it cut off?)" if is_cut else ""
                report.problems.append(f"{path}:{line_number}: {bad}{hint}")
            continue
        key = (record.question, record.answer, record.context, record.file_name, record.label)
        if drop_duplicates:
            if key in seen:
                report.duplicates += 1
                continue
            seen.add(key)
        records.append(record)
    if report.rows == 0:
        raise InputError(f"{path}: no rows: the file is empty; give one JSON object a line")
    if report.skipped and (on_bad_rows == "error" or not records):
        raise InputError(_bad_rows_message(report, on_bad_rows))
    _check_labels(records, path)
    report.repeated_questions = _repeats(record.question for record in records)
    report.repeated_answers = _repeats(record.answer for record in records)
    return records, report


def _bad_rows_message(report: ReadReport, on_bad_rows: OnBadRows) -> str:
    lines = list(report.problems)
    if report.skipped > len(lines):
        lines.append(f"{report.path}: ... and {report.skipped - len(lines)} more bad rows")
    if report.skipped > 1:
        lines.append(f"{report.path}: {report.skipped} of {report.rows} rows are bad")
    if on_bad_rows == "error" and report.skipped < report.rows:
        lines[-1] += "; mend them or leave them out with --data.on_bad_rows skip"
    return "\n".join(lines)


def _lines(path: Path) -> Iterator[tuple[int, bytes, bool]]:
    """Yields (line number, bytes without the line end, is the last line without one)."""
    try:
        with path.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                body = line.rstrip(b"\r\n")
                if body.strip():
                    yield number, body, not line.endswith(b"\n")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check --input_jsonl") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; give a JSONL file") from None
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror or error}") from None


class _RowError(ValueError):
    """``field: what is wrong`` of one row."""


def _parse(line: bytes, number: int) -> Record:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _RowError(
            f"row: not UTF-8 (byte 0x{line[error.start]:02x} at position {error.start + 1}); "
            "save the file as UTF-8"
        ) from None
    try:
        row = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
    except _RowError:
        raise
    except json.JSONDecodeError as error:
        raise _RowError(f"row: not valid JSON: {error.msg} at column {error.colno}") from None
    except (ValueError, RecursionError) as error:  # huge integers, deep nesting
        raise _RowError(f"row: not readable JSON: {error}") from None
    if not isinstance(row, dict):
        raise _RowError(f"row: is {_kind(row)}, must be an object with question and answer")
    texts = {name: _text(row, name, required=True) for name in TEXT_FIELDS}
    texts |= {name: _text(row, name, required=False) for name in OPTIONAL_TEXT_FIELDS}
    return Record(line=number, id=_id(row, number), label=_label(row), **texts)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _RowError(f"{twice}: stands more than once in the object; keep one")
    return row


def _refuse_constant(name: str) -> NoReturn:
    raise _RowError(f"row: holds {name}, which is not JSON; use a number or null")


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list():
            return "an array"
        case _:
            return "an object"


def _text(row: dict[str, Any], name: str, *, required: bool) -> str:
    if name not in row:
        if required:
            keys = ", ".join(sorted(row)[:8]) or "none"
            raise _RowError(f"{name}: missing (the row's keys: {keys})")
        return ""
    value = row[name]
    if value is None and not required:
        return ""
    if not isinstance(value, str):
        raise _RowError(f"{name}: is {_kind(value)}, must be a text")
    _check_surrogates(name, value)
    value = value.strip()
    if required and not value:
        raise _RowError(f"{name}: is empty; give a text")
    return value


def _check_surrogates(name: str, value: str) -> None:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _RowError(
            f"{name}: holds half a surrogate pair (\\u{ord(value[error.start]):04x}) "
            f"at character {error.start + 1}; write the whole character"
        ) from None


def _id(row: dict[str, Any], number: int) -> str:
    value = row.get("id")
    if value is None:
        return str(number)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _RowError(f"id: is {_kind(value)}, must be a text or a whole number")
    if isinstance(value, str):
        _check_surrogates("id", value)
    return str(value)


def _label(row: dict[str, Any]) -> float | None:
    labels = {}
    for name in LABEL_FIELDS:
        value = row.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _RowError(f"{name}: is {_kind(value)}, must be a number from 0 to 1")
        if not (math.isfinite(value) and 0 <= value <= 1):
            raise _RowError(f"{name}: is {value}, must lie from 0 to 1")
        labels[name] = float(value)
    if len(set(labels.values())) > 1:
        raise _RowError("label: differs from score; give one of them")
    return next(iter(labels.values()), None)


def _check_labels(records: list[Record], path: str | Path) -> None:
    labelled = sum(record.label is not None for record in records)
    if 0 < labelled < len(records):
        first = next(record for record in records if record.label is None)
        raise InputError(
            f"{path}:{first.line}: label: missing, while {labelled} of {len(records)} rows have "
            "one; label all rows or none"
        )


def _repeats(texts: Iterator[str]) -> int:
    total = 0
    distinct: set[str] = set()
    for text in texts:
        total += 1
        distinct.add(normalize_text(text))
    return total - len(distinct)
