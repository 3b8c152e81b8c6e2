from __future__ import annotations

import pytest

from embedft.table.record import (
    RowError,
    normalize_name,
    normalize_text,
    parse_row,
)


def test_normalize_text() -> None:
    assert normalize_text(" Cafe\u0301\u2028 \uff21\ufb01 STRASSE ") == normalize_text(
        "café Afi straße"
    )
    assert normalize_text("a") != normalize_text("b")


def test_a_row_without_an_id_has_its_line_number() -> None:
    record = parse_row(b'{"question": " q ", "answer": "a"}', 7, False, False)
    assert (record.id, record.has_id, record.question) == ("7", False, "q")
    record = parse_row(b'{"id": 3, "question": "q", "answer": "a", "score": 1}', 7, False, False)
    assert (record.id, record.has_id, record.label) == ("3", True, 1.0)


@pytest.mark.parametrize(
    ("line", "kind"), [(b'[{"question": "q"}]', "an array"), (b"question,answer", "looks like CSV")]
)
def test_another_format_is_named_in_the_first_line(line: bytes, kind: str) -> None:
    with pytest.raises(RowError, match=f"{kind}.*give JSONL"):
        parse_row(line, 1, False, False)


def test_a_bad_row_may_have_been_cut_off() -> None:
    with pytest.raises(RowError, match="was it cut off"):
        parse_row(b'{"question": "q", "ans', 2, False, True)
    with pytest.raises(RowError, match="context: missing or empty"):
        parse_row(b'{"question": "q", "answer": "a"}', 2, True, False)


def test_file_names_are_equal_in_both_unicode_forms() -> None:
    assert normalize_name("Mu\u0308ller.pdf") == normalize_name("M\u00fcller.pdf")
    assert normalize_name("a.pdf") != normalize_name("A.pdf")
