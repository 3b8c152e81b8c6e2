"""One line of JSONL as a record: an error names the field."""

from __future__ import annotations

import json
import unicodedata
from math import isinf
from typing import Any, NamedTuple, NoReturn

from embedft.table.layout import usual_names

LABEL_FIELDS = ("label", "score")


class Record(NamedTuple):
    """One row of the input.

    Attributes:
        line: Line number in the file, from 1.
        id: The row's ``id``, or its line number if it has none.
        question: The anchor text, stripped, never empty.
        answer: The answer text, stripped, never empty.
        context: The passage that the answer comes from; empty if there is none.
        file_name: The document that the pair comes from; empty if there is none.
        label: How well the pair fits, in [0, 1]; None if the file gives none.
        negatives: Wrong answers to the question, stripped, none empty.
        has_id: Whether the row has an ``id``; if not, its line number is its id.
    """

    line: int
    id: str
    question: str
    answer: str
    context: str = ""
    file_name: str = ""
    label: float | None = None
    negatives: tuple[str, ...] = ()
    has_id: bool = False


class RowError(ValueError):
    """What is wrong with one row, as ``field: what is wrong``."""


def normalize_text(text: str) -> str:
    """The form in which equal texts are equal: NFKC, case-folded, white space as one blank."""
    if text.isascii() and text.isprintable() and "  " not in text:  # most texts; much faster
        return text.strip().lower()
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def normalize_name(name: str) -> str:
    """The form in which equal file names are equal (NFC): some file systems decompose names."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def parse_row(line: bytes, number: int, context_required: bool, is_unfinished: bool) -> Record:
    """One line as a record.

    Args:
        line: The line, without its line end.
        number: Its line number, which is the id of a row without one.
        context_required: A row without a context is a bad row.
        is_unfinished: The line has no line end, so a bad row may have been cut off.

    Raises:
        RowError: The row is bad.
    """
    try:
        record = _parse(line, number)
        if context_required and not record.context:
            raise RowError("context: missing or empty, needed by --data.positive context")
    except RowError as bad:
        if is_unfinished:
            raise RowError(f"{bad} (the file ends inside this row: was it cut off?)") from None
        raise
    return record


def _parse(line: bytes, number: int) -> Record:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RowError(
            f"row: not UTF-8 (byte 0x{line[error.start]:02x} at position {error.start + 1}); "
            "save the file as UTF-8"
        ) from None
    if text.startswith("\ufeff"):
        raise RowError("row: not valid JSON: Unexpected UTF-8 BOM (decode using utf-8-sig)")
    try:
        row = _DECODER.decode(text)
    except RowError:
        raise
    except json.JSONDecodeError as error:
        kind = _other_format(text) if number == 1 else None
        if kind:
            raise RowError(f"row: not valid JSON, it looks like {kind}; {_WANTED}") from None
        raise RowError(f"row: not valid JSON: {error.msg} at column {error.colno}") from None
    except (ValueError, RecursionError) as error:  # huge integers, deep nesting
        raise RowError(f"row: not readable JSON: {error}") from None
    if not isinstance(row, dict):
        hint = f"; {_WANTED}" if number == 1 and isinstance(row, list) else ""
        raise RowError(f"row: is {_kind(row)}, must be an object with question and answer{hint}")
    row = usual_names(row)
    return Record(
        number,
        question=_text(row, "question", required=True),
        answer=_text(row, "answer", required=True),
        context=_text(row, "context", required=False),
        file_name=_text(row, "file_name", required=False),
        id=_id(row, number),
        label=_label(row),
        negatives=_negatives(row),
        has_id=row.get("id") is not None,
    )


_WANTED = 'give JSONL, a line {"question": "...", "answer": "..."} for each pair'


def _other_format(first_line: str) -> str | None:
    """The format that a first line without JSON looks like; None if unknown."""
    text = first_line.strip()
    if text.startswith("["):
        return "a JSON array"
    if text.startswith("{") or not text.replace("\t", " ").isprintable():
        return None
    return "CSV" if any(sign in text for sign in ",;\t") else None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise RowError(f"{_key(twice)}: occurs more than once in the object; keep one")
    return row


def _key(key: str) -> str:
    """A key that can be printed, also if it holds half a surrogate pair."""
    return key.encode("utf-8", "backslashreplace").decode("utf-8")


def _refuse_constant(name: str) -> NoReturn:
    raise RowError(f"row: holds {name}, which is not JSON; use a number or null")


def _finite(digits: str) -> float:
    if isinf(number := float(digits)):
        raise RowError(f"row: holds {digits}, too large a number; use a smaller one or null")
    return number


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique_keys, parse_constant=_refuse_constant, parse_float=_finite
)


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
            keys = ", ".join(map(_key, sorted(row)[:8])) or "none"
            raise RowError(f"{name}: missing (the row's keys: {keys})")
        return ""
    value = row[name]
    if value is None and not required:
        return ""
    text = _checked(name, value)
    if required and not text:
        raise RowError(f"{name}: is empty; give a text")
    return text


def _checked(name: str, value: Any) -> str:
    """A text, stripped; empty if nothing in it is visible."""
    if not isinstance(value, str):
        one = "; write a row for each text" if isinstance(value, list) else ""
        raise RowError(f"{name}: is {_kind(value)}, must be a text{one}")
    if not value.isascii():
        _check_surrogates(name, value)
    text = value.strip()
    return text if text.isprintable() or not all(map(_is_blank, text)) else ""


def _is_blank(character: str) -> bool:
    """Whether a character is white space or has no width: no tokenizer makes a token of it."""
    return character.isspace() or unicodedata.category(character) in {"Cf", "Cc"}


def _negatives(row: dict[str, Any]) -> tuple[str, ...]:
    values = row.get("negatives")
    if values is None:
        return ()
    if not isinstance(values, list):
        raise RowError(f"negatives: is {_kind(values)}, must be a list of texts")
    texts = tuple(
        _checked(f"negatives: number {number}", value) for number, value in enumerate(values, 1)
    )
    if "" in texts:
        number = texts.index("") + 1
        raise RowError(f"negatives: number {number} is empty; give a text or leave it out")
    return texts


def _check_surrogates(name: str, value: str) -> None:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RowError(
            f"{name}: holds half a surrogate pair (\\u{ord(value[error.start]):04x}) "
            f"at character {error.start + 1}; write the whole character"
        ) from None


def _id(row: dict[str, Any], number: int) -> str:
    value = row.get("id")
    if value is None:
        return str(number)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise RowError(f"id: is {_kind(value)}, must be a text or a whole number")
    if isinstance(value, str):
        _check_surrogates("id", value)
    return str(value)


def _label(row: dict[str, Any]) -> float | None:
    labels: dict[str, float] = {}
    for name in LABEL_FIELDS:
        value = row.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise RowError(f"{name}: is {_kind(value)}, must be a number from 0 to 1")
        if not 0 <= value <= 1:  # float() of a whole number may overflow
            raise RowError(f"{name}: is {value}, must lie from 0 to 1")
        labels[name] = float(value)
    if len(set(labels.values())) > 1:
        raise RowError("label: differs from score; give one of them")
    return next(iter(labels.values()), None)
