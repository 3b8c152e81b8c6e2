"""The names of a row's fields: embedft's own, those of usual layouts, and those that are meant."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterable, Iterator
from typing import Any

_LAYOUTS: tuple[dict[str, str], ...] = (
    {"question": "anchor", "answer": "positive", "negatives": "negative"},
    {"question": "query", "answer": "pos", "negatives": "neg"},
)
"""The names of usual layouts: sentence-transformers' and FlagEmbedding's."""

_OPTIONAL = ("context", "file_name", "id", "label", "score", "negatives")

_OTHER_NAMES = {
    "file": "file_name",
    "hard_negative": "negatives",
    "hard_negatives": "negatives",
    "neg": "negatives",
}
"""Names that others give to an optional field, and that do not resemble ours."""


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
    for key, name in misspelt_fields(row.keys() - set(names.values())).items():
        yield True, f"key {key} is not read; {name} is meant? Then rename it to {name}"


def misspelt_fields(keys: Collection[str]) -> dict[str, str]:
    """The optional field that is meant, for each key of a row that is not read but resembles one.

    Args:
        keys: Of a row; an optional field that is among them is not meant by another key.
    """
    missing = {name.replace("_", ""): name for name in _OPTIONAL if name not in keys}
    found = {}
    for key in sorted(set(keys).difference(_OPTIONAL)):
        plain = key.lower().replace("_", "").replace(" ", "").replace("-", "")
        close = difflib.get_close_matches(plain, missing, n=1, cutoff=0.85)
        name = missing[close[0]] if close else _OTHER_NAMES.get(key, "")
        if name in missing.values():
            found[key] = name
    return found
