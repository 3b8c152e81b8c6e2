from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import sample_rows, with_negatives, write_jsonl

from embedft.data.load import read_settings
from embedft.encoder.encoder import Encoder
from embedft.errors import InputError
from embedft.table.jsonl import stream_records
from embedft.table.read_report import ReadCounts
from embedft.table.table import Table, read_table

Rows = list[dict[str, Any]]


def rows() -> Rows:
    made = with_negatives(sample_rows()[:30])
    made[3]["answer"] += '\nA second "line", with; signs\tof all kinds.\n\n'
    made[5]["context"] = ""
    return [row | {"label": (i % 5) / 4} for i, row in enumerate(made)]


def table_bytes(rows: Rows, delimiter: str = ",", encoding: str = "utf-8") -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    for row in rows:
        writer.writerow({k: json.dumps(v) if isinstance(v, list) else v for k, v in row.items()})
    return text.getvalue().encode(encoding)


def jsonl_bytes(rows: Rows) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def renamed(*names: str) -> Rows:
    ours = dict(zip(("question", "answer", "negatives"), names, strict=True))
    return [{ours.get(key, key): value for key, value in row.items()} for row in rows()]


def flag_embedding() -> Rows:
    return [row | {"pos": [row["pos"]]} for row in renamed("query", "pos", "neg")]


FILES: dict[str, Callable[[], bytes]] = {
    "p.jsonl.gz": lambda: gzip.compress(jsonl_bytes(rows())),
    "named plainly.jsonl": lambda: gzip.compress(jsonl_bytes(rows())),
    "p.csv": lambda: table_bytes(rows()),
    "semicolons.csv": lambda: table_bytes(rows(), ";", "utf-8-sig"),
    "p.tsv": lambda: table_bytes(rows(), "\t"),
    "p.csv.gz": lambda: gzip.compress(table_bytes(rows())),
    "anchor.jsonl": lambda: jsonl_bytes(renamed("anchor", "positive", "negative")),
    "query.jsonl": lambda: jsonl_bytes(flag_embedding()),
    "query.csv": lambda: table_bytes(renamed("query", "pos", "neg")),
}


def read(path: Path, encoder: Encoder, cache: Path | None = None) -> Table:
    settings = read_settings(encoder, "both", context_required=False, negatives=True)
    return read_table(str(path), settings, cache)


@pytest.fixture(scope="module")
def encoder(tiny_model: Path) -> Encoder:
    return Encoder(str(tiny_model))


@pytest.mark.parametrize("name", FILES)
def test_a_file_gives_the_table_of_the_jsonl_of_its_rows(
    name: str, tmp_path: Path, encoder: Encoder
) -> None:
    """The tables are all that training knows of a file."""
    expected = read(write_jsonl(tmp_path / "expected.jsonl", rows()), encoder)
    path = tmp_path / name
    path.write_bytes(FILES[name]())
    table = read(path, encoder, tmp_path / "cache")
    assert read(path, encoder, tmp_path / "cache").tokens.fingerprint == table.tokens.fingerprint
    for column in (
        *("question", "answer", "context", "question_hash", "answer_hash", "context_hash"),
        *("file_hash", "label", "duplicate"),
    ):
        np.testing.assert_array_equal(getattr(table, column), getattr(expected, column))
    every = np.arange(len(expected.tokens.cut))
    for got, wanted in zip(table.tokens.pack(every), expected.tokens.pack(every), strict=True):
        assert got.equal(wanted)
    assert table.negatives is not None
    assert expected.negatives is not None
    np.testing.assert_array_equal(table.negatives.text, expected.negatives.text)
    assert len(list((tmp_path / "cache").glob("[!.]*"))) == 1


def test_lines_of_a_table_are_those_of_the_file(tmp_path: Path) -> None:
    """A row is on the line on which it starts, whatever is in quotes before it."""
    path = tmp_path / "p.csv"
    path.write_bytes(table_bytes(rows()))
    counts = ReadCounts(str(path))
    records = list(stream_records(path, counts))
    lines = path.read_text("utf-8").split("\r\n")
    for record in records:
        before = "\r\n".join(lines).index(record.question)
        assert "\r\n".join(lines)[:before].count("\n") + 1 == record.line
    path.write_text("question,answer,label\nq,,1\n\nq,a,much\n")
    list(stream_records(path, bad := ReadCounts(str(path))))
    assert bad.bad_rows == [
        (2, "answer: is empty; give a text"),
        (4, "label: is a text, must be a number from 0 to 1"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"question,answer\nWhy?,So,so\n", r"p.csv:2: has 3 columns, the header has 2"),
        (b"question,question\na,b\n", r"p.csv:1: the header names question more than once"),
        (b"question,answer\nWhy?,Z\xfcrich\n", r"p.csv: not UTF-8 \(byte 0xfc\); save"),
        (b'question,answer\nWhy?,"So\n', r"p.csv:2: not a readable table: unexpected end"),
    ],
)
def test_a_table_that_cannot_be_read(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        list(stream_records(path, ReadCounts(str(path))))
