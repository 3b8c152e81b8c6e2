from __future__ import annotations

import json
from typing import Any

import pytest

from embedft.table.layout import key_notes, misspelt_fields
from embedft.table.record import RowError, parse_row


def parsed(row: dict[str, Any]) -> Any:
    return parse_row(json.dumps(row).encode(), 1, False, False)


@pytest.mark.parametrize(
    ("row", "negatives"),
    [
        ({"anchor": "q", "positive": "a", "negative": "n"}, ("n",)),
        ({"anchor": "q", "positive": "a", "negative": ["n", "m"]}, ("n", "m")),
        ({"query": "q", "pos": ["a"], "neg": ["n", "m"]}, ("n", "m")),
        ({"query": "q", "pos": "a", "neg": " "}, ()),
        ({"query": "q", "pos": "a"}, ()),
    ],
)
def test_usual_layouts_are_known(row: dict[str, Any], negatives: tuple[str, ...]) -> None:
    record = parsed(row)
    assert (record.question, record.answer, record.negatives) == ("q", "a", negatives)


def test_several_positives_need_several_rows() -> None:
    with pytest.raises(RowError, match="answer: is an array.*; write a row for each text"):
        parsed({"query": "q", "pos": ["a", "b"]})


def test_our_names_win() -> None:
    with pytest.raises(RowError, match="answer: missing"):
        parsed({"question": "q", "query": "q", "pos": "a"})


def test_keys_are_named_once() -> None:
    lines = [
        b'{"query": "q", "pos": "a", "filename": "f"}',
        b'{"query": "q", "pos": "a", "filename": "f"}',
        b'{"question": "q", "answer": "a", "file_name": "f", "filename": "f", "neg": "n"}',
        b"no JSON",
    ]
    assert list(key_notes(lines)) == [
        (False, "a usual layout: reads query as question, pos as answer"),
        (True, "key filename is not read; file_name is meant? Then rename it to file_name"),
        (True, "key neg is not read; negatives is meant? Then rename it to negatives"),
    ]


def test_misspelt_optional_fields_are_named() -> None:
    row = json.loads(
        b'{"question": "", "answer": "", "filename": "a", "ID": 1, "topic": "", "context": ""}'
    )
    assert misspelt_fields(row) == {"filename": "file_name", "ID": "id"}
    row = json.loads(b'{"file_name": "a", "filename": "b", "note": "", "url": ""}')
    assert not misspelt_fields(row)
