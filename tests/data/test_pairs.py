from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from loaded_data import loaded
from tiny import sample_rows, write_jsonl
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from embedft.data.pairs import encode_pairs, row_hashes
from embedft.encoder.encoder import Encoder
from embedft.table.settings import ReadSettings, Target
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


def read(path: Path, tokenizer: str, documents: Target) -> Table:
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
    positive: Target,
    anchors: list[int],
    positives: list[str],
    labels: list[float],
) -> None:
    table = read(tmp_path, tokenizer, positive)
    pairs, held_out = encode_pairs((table, np.arange(3)), (table, np.arange(0)), positive)
    assert len(held_out) == 0
    questions = words(table, tokenizer, table.question)
    assert words(table, tokenizer, pairs.anchor) == [questions[row] for row in anchors]
    assert [text.replace(" ", "") for text in words(table, tokenizer, pairs.positive)] == positives
    assert pairs.anchor_hash.tolist() == table.question_hash[anchors].tolist()
    assert len(set(pairs.positive_hash.tolist())) == len(set(positives))
    assert pairs.labels is not None
    assert pairs.labels.tolist() == labels
    relevant = pairs.only(pairs.relevant)
    assert relevant.labels is not None
    assert relevant.labels.tolist() == [label for label in labels if label >= 0.5]
    assert len(relevant) == len(relevant.anchor) == len(relevant.positive) == len(relevant.labels)
    assert (row_hashes(table, np.arange(3)).context is None) == (positive == "answer")


def test_equal_texts_of_two_files_have_one_id(tmp_path: Path, tokenizer: str) -> None:
    """The texts of the second file count on; a text of both has one id, and two texts."""
    train = read(tmp_path, tokenizer, "answer")
    (tmp_path / "own").mkdir()
    held_out = read(tmp_path / "own", tokenizer, "answer")
    pairs, own = encode_pairs((train, np.arange(3)), (held_out, np.array([2, 1])), "answer")
    assert own.anchor_id.tolist() == pairs.anchor_id[[2, 1]].tolist()
    assert own.positive_id.tolist() == pairs.positive_id[[2, 1]].tolist()
    assert own.source_row.tolist() == [2, 1]
    n_texts = len(train.tokens.cut)
    assert own.anchor.tolist() == (held_out.question[[2, 1]] + n_texts).tolist()
    joined = train.tokens.joined(held_out.tokens)
    for text, same in zip(own.positive, pairs.positive[[2, 1]], strict=True):
        assert (
            joined.pack(np.array([text]))[0].tolist() == joined.pack(np.array([same]))[0].tolist()
        )
    assert (pairs.file_id >= 0).tolist() == [True, False, False]
    assert own.file_id.tolist() == [-1, -1], "held-out pairs of one file may share a batch"


def test_held_out_labels_follow_the_training_labels(tmp_path: Path, tokenizer: str) -> None:
    """They are kept only if there are training labels, and 1 if the held-out file has none."""
    table = read(tmp_path, tokenizer, "answer")
    plain = replace(table, label=None)
    rows = np.arange(3)
    _, held_out = encode_pairs((plain, rows), (table, rows), "answer")
    assert held_out.labels is None
    assert held_out.relevant.tolist() == [True, False, True]
    _, held_out = encode_pairs((table, rows), (plain, rows), "answer")
    assert held_out.labels is not None
    assert held_out.labels.tolist() == [1, 1, 1]
    assert held_out.relevant.all()


@pytest.mark.parametrize(("answers", "can"), [(1, False), (2, False), (3, True)])
def test_whether_a_question_has_a_wrong_answer(
    tmp_path: Path, encoder: Encoder, answers: int, can: bool
) -> None:
    own = [{"question": "one", "answer": f"answer {i}"} for i in range(min(answers, 2))]
    own += [{"question": "two", "answer": "answer 2"}] * (answers > 2)
    path = write_jsonl(tmp_path / "own.jsonl", own)
    train = write_jsonl(tmp_path / "p.jsonl", sample_rows()[:20])
    data = loaded(train, encoder, validation_jsonl=str(path), needs_labels=True)
    assert data.fit_data.validation_pairs.can_draw_negatives is can
    assert np.unique(data.fit_data.validation_pairs.positive_id).size == answers
