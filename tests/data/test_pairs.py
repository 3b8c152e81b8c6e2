from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from tiny import write_jsonl
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from embedft.data.pairs import Pairs, pairs_of, row_hashes, train_rows
from embedft.data.task import retrieval_task
from embedft.errors import InputError
from embedft.table.settings import Positive, ReadSettings
from embedft.table.table import Table, read_table

ROWS: list[dict[str, Any]] = [
    {"question": "q0", "answer": "a0", "context": "c0", "file_name": "f", "label": 1},
    {"question": "q1", "answer": "a1", "label": 0.25},
    {"question": "Q0", "answer": "a2", "context": "A0", "label": 0.5},
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    model = AutoTokenizer.from_pretrained(tiny.build_plain(tmp_path_factory.mktemp("m") / "bert"))
    text: str = model.backend_tokenizer.to_str()
    return text


def read(path: Path, tokenizer: str, documents: Positive) -> Table:
    return read_table(
        str(write_jsonl(path / "p.jsonl", ROWS)),
        ReadSettings(tokenizer, 24, documents=documents),
        None,
    )


def words(table: Table, tokenizer: str, texts: Any) -> list[str]:
    decode = Tokenizer.from_str(tokenizer).decode
    return [
        decode(table.tokens.pack(np.array([text]))[0].tolist()).replace(" ##", "") for text in texts
    ]


@pytest.mark.parametrize(
    ("positive", "anchors", "positives", "labels"),
    [
        ("answer", [0, 1, 2], ["a0", "a1", "a2"], [1, 0.25, 0.5]),
        ("context", [0, 2], ["c0", "a0"], [1, 0.5]),
        ("both", [0, 0, 1, 2, 2], ["a0", "c0", "a1", "a2", "a0"], [1, 1, 0.25, 0.5, 0.5]),
    ],
)
def test_pairs_of_each_kind(
    tmp_path: Path,
    tokenizer: str,
    positive: Positive,
    anchors: list[int],
    positives: list[str],
    labels: list[float],
) -> None:
    table = read(tmp_path, tokenizer, positive)
    pairs = pairs_of(table, np.arange(3), positive)
    questions = words(table, tokenizer, table.question)
    assert words(table, tokenizer, pairs.anchor) == [questions[row] for row in anchors]
    assert [text.replace(" ", "") for text in words(table, tokenizer, pairs.positive)] == positives
    assert pairs.anchor_hash.tolist() == table.question_hash[anchors].tolist()
    assert len(set(pairs.positive_hash.tolist())) == len(set(positives))
    assert pairs.label is not None
    assert pairs.label.tolist() == labels
    right = pairs.only(pairs.relevant)
    assert right.label is not None
    assert right.label.tolist() == [label for label in labels if label >= 0.5]
    assert len(right) == len(right.anchor) == len(right.positive) == len(right.label)
    assert (row_hashes(table, np.arange(3)).context is None) == (positive == "answer")


def pairs(rows: list[tuple[int, int]], first_text: int = 0) -> Pairs:
    """Row i has texts 2i and 2i + 1; keys are the rows' numbers and count from 1."""
    anchor = first_text + 2 * np.arange(len(rows))
    keys = np.array(rows, dtype=np.uint64).reshape(-1, 2) + np.uint64(1)
    none = np.zeros(len(rows), dtype=np.uint64)
    return Pairs(anchor, anchor + 1, keys[:, 0], keys[:, 1], none, None, np.arange(len(rows)))


some_rows = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=30)


@given(some_rows, some_rows, st.data())
def test_the_task_is_what_dictionaries_make(
    train: list[tuple[int, int]], held_out: list[tuple[int, int]], data: st.DataObject
) -> None:
    right = data.draw(st.lists(st.booleans(), min_size=len(held_out), max_size=len(held_out)))
    sides = pairs(train), pairs(held_out, 1000)
    rows, validation = train_rows(*sides)
    if not any(right):
        with pytest.raises(InputError, match="no held-out pair reaches"):
            retrieval_task(rows, validation, np.array(right))
        return
    task = retrieval_task(rows, validation, np.array(right))
    corpus: dict[int, int] = {}
    for side, numbers in zip(sides, (train, held_out), strict=True):
        for (_, answer), text in zip(numbers, side.positive.tolist(), strict=True):
            corpus.setdefault(answer, text)
    queries: dict[int, int] = {}
    relevant: dict[int, set[int]] = {}
    for (question, answer), text, is_right in zip(
        held_out, sides[1].anchor.tolist(), right, strict=True
    ):
        if is_right:
            queries.setdefault(question, text)
            relevant.setdefault(question, set()).add(corpus[answer])
    assert sorted(task.corpus.tolist()) == sorted(corpus.values())
    assert task.corpus_ids.tolist() == sorted(set(task.corpus_ids.tolist()))
    assert task.queries.tolist() == list(queries.values())
    found = [set(task.corpus[places].tolist()) for places in task.relevant]
    assert found == list(relevant.values())
    every_second = [places.tolist() for places in task.relevant[1::2]]
    assert every_second == [places.tolist() for places in list(task.relevant)[1::2]]
    texts = task.corpus[np.searchsorted(task.corpus_ids, validation.positive_id)]
    assert texts.tolist() == [corpus[answer] for _, answer in held_out]
