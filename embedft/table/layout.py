"""The names of a row's fields: embedft's own, those of usual layouts, and those that are meant."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

_LAYOUTS: tuple[dict[str, str], ...] = (
    {"question": "anchor", "answer": "positive", "negatives": "negative"},
    {"question": "query", "answer": "pos", "negatives": "neg"},
)
"""The names of usual layouts: sentence-transformers' and FlagEmbedding's."""

_MEANT = {
    "negatives": ("hard_negatives", "hard_negative", "negative", "neg"),
    "file_name": ("filename", "fileName", "file-name", "file", "File_Name"),
    "context": ("contexts", "Context"),
    "label": ("labels", "Label"),
    "score": ("scores", "Score"),
}
"""Keys that are not read, by the field that is meant."""


def usual_names(row: dict[str, Any]) -> dict[str, Any]:
    """The row under our names if it has the keys of a usual layout.

    A list with one positive is that text, and a negative that is a text is a list of one.
    """
    if (names := _layout(row)) is None:
        return row
    ours = {theirs: name for name, theirs in names.items()}
    named = {ours.get(key, key): value for key, value in row.items()}
    match named["answer"]:
        case [str() as text]:
            named["answer"] = text
    if isinstance(named.get("negatives"), str):
        named["negatives"] = [named["negatives"]] if named["negatives"].strip() else None
    return named


def _layout(row: dict[str, Any]) -> dict[str, str] | None:
    if "question" in row or "answer" in row:
        return None
    known = (names for names in _LAYOUTS if {names["question"], names["answer"]} <= row.keys())
    return next(known, None)


def key_notes(lines: Iterable[bytes]) -> Iterator[tuple[bool, str]]:
    """What is to be said of the keys of rows, each once, and whether it is a warning."""
    said = set()
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):  # what reads the row says what is wrong
            continue
        if not isinstance(row, dict):
            continue
        for note in _notes(row):
            if note not in said:
                said.add(note)
                yield note


def _notes(row: dict[str, Any]) -> Iterator[tuple[bool, str]]:
    names = _layout(row) or {}
    if names:
        read = ", ".join(f"{theirs} as {name}" for name, theirs in names.items() if theirs in row)
        yield False, f"a usual layout: reads {read}"
    for name, keys in _MEANT.items():
        for key in keys:
            if key in row and name not in row and key != names.get(name):
                yield True, f"key {key} is not read; {name} is meant? Then rename it to {name}"
