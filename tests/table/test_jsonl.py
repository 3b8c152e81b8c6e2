from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracle import read_records
from tiny import MULTILINGUAL, sample_rows, write_jsonl

from embedft.errors import InputError
from embedft.table.jsonl import stream_records
from embedft.table.read_report import ReadCounts

GOOD = '{"question": "q", "answer": "a"}'


def read(tmp_path: Path, content: str | bytes, **options: Any) -> Any:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_records(path, **options)


def test_fields_are_read(tmp_path: Path) -> None:
    row = {
        "id": 7,
        "question": " What? ",
        "answer": "That.",
        "context": "So it was.",
        "file_name": "a.pdf",
        "score": 0.5,
        "extra": [1],
    }
    (record,), report = read(tmp_path, json.dumps(row))
    assert (record.line, record.id, record.question, record.answer) == (1, "7", "What?", "That.")
    assert (record.context, record.file_name, record.label) == ("So it was.", "a.pdf", 0.5)
    assert (report.rows, report.valid, report.skipped) == (1, 1, 0)


def test_only_question_and_answer_are_required(tmp_path: Path) -> None:
    (record,), _ = read(tmp_path, '\n{"question": "q", "answer": "a", "context": null}\n\n')
    assert (record.id, record.line) == ("2", 2)
    assert (record.context, record.file_name, record.label) == ("", "", None)


def test_bom_crlf_and_missing_last_newline(tmp_path: Path) -> None:
    content = (
        b"\xef\xbb\xbf"
        + b'{"question": "q1", "answer": "a1"}\r\n{"question": "q2", "answer": "a2"}'
    )
    records, _ = read(tmp_path, content)
    assert [(record.line, record.answer) for record in records] == [(1, "a1"), (2, "a2")]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
def test_unicode_line_separators_do_not_end_a_row(tmp_path: Path, separator: str) -> None:
    row = {"question": f"one{separator}two", "answer": "a"}
    (record,), _ = read(tmp_path, json.dumps(row, ensure_ascii=separator < " ") + "\n")
    assert record.question == f"one{separator}two"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"answer": "a"}', "question: missing (the row's keys: answer)"),
        ('{"question": null, "answer": "a"}', "question: is null, must be a text"),
        ('{"question": "q", "answer": 3}', "answer: is a number, must be a text"),
        ('{"question": "q", "answer": true}', "answer: is true or false, must be a text"),
        ('{"question": "q", "answer": ["a"]}', "answer: is an array, must be a text"),
        ('{"question": "q", "answer": {}}', "answer: is an object, must be a text"),
        ('{"question": "", "answer": "a"}', "question: is empty"),
        ('{"question": "q", "answer": " \\t\\u00a0"}', "answer: is empty"),
        ('{"question": "\\u200b\\u2060 \\ufeff", "answer": "a"}', "question: is empty"),
        ('{"question": "q", "answer": "a", "context": 1}', "context: is a number, must be a text"),
        (
            '{"question": "q", "answer": "a", "id": 1.5}',
            "id: is a number, must be a text or a whole",
        ),
        ('{"question": "q", "question": "r", "answer": "a"}', "question: occurs more than once"),
        (
            '{"question": "\\ud800", "answer": "a"}',
            "question: holds half a surrogate pair (\\ud800)",
        ),
        ('{"question": "q", "answer": "a", "id": "\\udfff"}', "id: holds half a surrogate pair"),
        ('{"question": "q", "answer": "a", "label": 1.5}', "label: is 1.5, must lie from 0 to 1"),
        ('{"question": "q", "answer": "a", "label": "1"}', "label: is a text, must be a number"),
        (
            '{"question": "q", "answer": "a", "label": true}',
            "label: is true or false, must be a nu",
        ),
        ('{"question": "q", "answer": "a", "score": NaN}', "row: holds NaN, which is not JSON"),
        (f'{{"question": "q", "answer": "a", "label": 1{"0" * 400}}}', "label: is 1000"),
        ('{"q\\ud800": 1, "answer": "a"}', "question: missing (the row's keys: answer, q\\ud800)"),
        (
            '{"question": "q", "answer": "a", "score": 1e999}',
            "row: holds 1e999, too large a number",
        ),
        ('{"question": "q", "answer": "a", "my": [-1e999]}', "row: holds -1e999, too large"),
        ('{"question": "q", "answer": "a", "label": 0, "score": 1}', "label: differs from score"),
        (
            '{"question": "q", "answer": "a", "negatives": "n"}',
            "negatives: is a text, must be a list",
        ),
        (
            '{"question": "q", "answer": "a", "negatives": ["n", 1]}',
            "negatives: number 2: is a number, must be a text",
        ),
        (
            '{"question": "q", "answer": "a", "negatives": ["n", " "]}',
            "negatives: number 2 is empty; give a text",
        ),
        (
            '{"question": "q", "answer": "a", "negatives": ["\\ud800"]}',
            "negatives: number 1: holds half a surrogate pair (\\ud800)",
        ),
        ('["q", "a"]', "row: is an array, must be an object"),
        ('"q"', "row: is a text, must be an object"),
        ('{"question": "q", "answer": "a"', "row: not valid JSON: Expecting ',' delimiter"),
        ("[" * 100_000, "row: not readable JSON: maximum recursion depth"),
        ('{"question": "q", "answer": "a", "id": ' + "9" * 5000 + "}", "row: not readable JSON"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        read(tmp_path, f"{GOOD}\n{line}\n")
    assert str(error.value).startswith(f"{tmp_path}/pairs.jsonl:2: {message}")
    assert "\n" not in str(error.value)
    (record,), report = read(tmp_path, f"{GOOD}\n{line}\n", on_bad_rows="skip")
    assert (record.line, report.rows, report.valid, report.skipped) == (1, 2, 1, 1)


def test_not_utf8_names_the_byte(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r":1: row: not UTF-8 \(byte 0xfc at position 15\)"):
        read(tmp_path, '{"question": "ü", "answer": "a"}'.encode("latin-1"))


def test_cut_off_file_is_recognised(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="was it cut off"):
        read(tmp_path, GOOD + "\n" + GOOD[:-3])


def test_at_most_20_bad_rows_and_their_total(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        read(tmp_path, GOOD + "\n" + "{}\n" * 50)
    lines = str(error.value).split("\n")
    assert len(lines) == 22
    assert "and 30 more bad rows" in lines[20]
    assert "50 of 51 rows are bad. Fix them, or leave them out with" in lines[21]


def test_no_good_row_is_an_error_even_when_skipping(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 of 2 rows are bad"):
        read(tmp_path, "{}\n{}\n", on_bad_rows="skip")


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff", "  \n"])
def test_empty_file(tmp_path: Path, content: str) -> None:
    with pytest.raises(InputError, match="no rows: the file is empty"):
        read(tmp_path, content)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file; check --input_jsonl"):
        read_records(tmp_path / "nowhere.jsonl")
    with pytest.raises(InputError, match="is a folder; give a JSONL file"):
        read_records(tmp_path)


def test_exact_duplicates_are_dropped_and_repeats_counted(tmp_path: Path) -> None:
    rows = [
        {"id": "1", "question": "What is it?", "answer": "A"},
        {"id": "2", "question": "What is it?", "answer": "A"},
        {"id": "3", "question": "what  is IT?", "answer": "B"},
        {"id": "4", "question": "Other?", "answer": "a"},
    ]
    records, report = read_records(write_jsonl(tmp_path / "p.jsonl", rows))
    assert [record.id for record in records] == ["1", "3", "4"]
    assert (report.duplicates, report.repeated_questions, report.repeated_answers) == (1, 1, 1)
    assert "4 rows read, 3 valid, 0 skipped, 1 exact duplicates dropped" in str(report)
    records, _ = read_records(tmp_path / "p.jsonl", drop_duplicates=False)
    assert len(records) == 4


def test_labels_on_all_rows_or_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r":2: label: missing, while 1 of 2 rows have one"):
        read(
            tmp_path,
            '{"question": "q", "answer": "a", "label": 1}\n{"question": "r", "answer": "b"}',
        )


def test_context_can_be_required(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r":1: context: missing or empty, needed by --data.positive"
    ):
        read(tmp_path, GOOD, context_required=True)


def test_five_megabytes_in_one_line(tmp_path: Path) -> None:
    answer = "long " * 1_000_000
    (record,), _ = read(tmp_path, json.dumps({"question": "q", "answer": answer}))
    assert record.answer == answer.strip()


def test_multilingual_sample_survives(tmp_path: Path) -> None:
    records, report = read_records(MULTILINGUAL)
    assert report.skipped == 0
    for record, row in zip(records, sample_rows(MULTILINGUAL), strict=True):
        assert (record.question, record.answer) == (row["question"].strip(), row["answer"].strip())


@given(st.lists(st.tuples(st.text(), st.text()), min_size=1))
def test_any_text_survives_or_is_named(
    tmp_path_factory: pytest.TempPathFactory, texts: list[tuple[str, str]]
) -> None:
    rows = [{"question": question, "answer": answer} for question, answer in texts]
    path = tmp_path_factory.mktemp("h") / "p.jsonl"
    path.write_bytes("".join(json.dumps(row) + "\n" for row in rows).encode())
    bad = [
        number
        for number, pair in enumerate(texts, 1)
        if any(
            all(c.isspace() or unicodedata.category(c) in ("Cf", "Cc") for c in text)
            or any("\ud800" <= c <= "\udfff" for c in text)
            for text in pair
        )
    ]
    if bad:
        with pytest.raises(InputError) as error:
            read_records(path)
        for number in bad[:20]:
            assert f"{path}:{number}: " in str(error.value)
    else:
        records, _ = read_records(path, drop_duplicates=False)
        assert [(r.question, r.answer) for r in records] == [
            (q.strip(), a.strip()) for q, a in texts
        ]


@given(st.binary())
def test_any_bytes_end_in_records_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("h") / "p.jsonl"
    path.write_bytes(content)
    try:
        read_records(path)
    except InputError as error:
        assert str(path) in str(error)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
rows = st.dictionaries(
    st.sampled_from(["id", "question", "answer", "context", "file_name", "label", "score"]),
    json_values,
).map(lambda row: json.dumps(row).encode())


@given(st.lists(st.binary() | rows, max_size=8).map(b"\n".join))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=2000)
def test_rows_of_any_values_end_in_records_or_one_error(tmp_path: Path, data: bytes) -> None:
    """The reader never fails in another way, and never hangs."""
    path = tmp_path / "random.jsonl"
    path.write_bytes(data)
    try:
        records = list(stream_records(str(path), ReadCounts(str(path))))
    except InputError as error:
        assert str(error).startswith(str(path))
        return
    assert all(record.question.strip() and record.answer.strip() for record in records)
