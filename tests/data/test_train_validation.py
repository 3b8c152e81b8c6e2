from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny import sample_rows, write_jsonl

from embedft.data.load import read_settings
from embedft.data.pairs import TableRows
from embedft.data.train_validation import (
    pairs_with_validation_file,
    require_relevant,
    split_pairs,
)
from embedft.encoder.encoder import Encoder
from embedft.errors import InputError
from embedft.table.table import read_table


def used(path: Path, encoder: Encoder) -> TableRows:
    settings = read_settings(encoder, "answer", context_required=False)
    table = read_table(str(path), settings, None)
    return table, table.kept(drop_duplicates=True)


def test_a_split_holds_out_whole_groups(tmp_path: Path, encoder: Encoder) -> None:
    rows = used(write_jsonl(tmp_path / "p.jsonl", sample_rows()[:60]), encoder)
    both = split_pairs(rows, "answer", 0.8, 42, may_hold_out_all=False)
    assert both.n_rows == (len(both.train), len(both.held_out)) == (50, 10)
    assert not np.isin(both.train.positive_hash, both.held_out.positive_hash).any()
    files = rows[0].file_hash
    assert not np.isin(files[both.train.source_row], files[both.held_out.source_row]).any()


def test_a_share_of_0_holds_out_all_rows_if_nothing_is_trained(
    tmp_path: Path, encoder: Encoder
) -> None:
    rows = used(write_jsonl(tmp_path / "p.jsonl", sample_rows()[:20]), encoder)
    both = split_pairs(rows, "answer", 0, 42, may_hold_out_all=True)
    assert (len(both.train), len(both.held_out)) == (0, 20)
    with pytest.raises(InputError, match="train_split: is 0, must lie between 0 and 1"):
        split_pairs(rows, "answer", 0, 42, may_hold_out_all=False)


def test_rows_that_share_a_text_with_the_validation_file_are_left_out(
    tmp_path: Path, encoder: Encoder
) -> None:
    rows = sample_rows()
    own = [rows[3] | {"answer": "Another."}, rows[4] | {"question": "Another?"}, rows[70]]
    train = used(write_jsonl(tmp_path / "p.jsonl", rows[:60]), encoder)
    validation = used(write_jsonl(tmp_path / "own.jsonl", own), encoder)
    both = pairs_with_validation_file(train, validation, "answer")
    assert both.n_rows == (58, 3)
    assert sorted({*range(60)} - set(both.train.source_row.tolist())) == [3, 4]
    assert both.tokens.fingerprint.count("+") == 1
    with pytest.raises(InputError, match="only 0 rows are left to train on"):
        pairs_with_validation_file(train, train, "answer")


def test_two_relevant_pairs_are_required(tmp_path: Path, encoder: Encoder) -> None:
    rows = [row | {"label": int(i < 1)} for i, row in enumerate(sample_rows()[:20])]
    table = used(write_jsonl(tmp_path / "p.jsonl", rows), encoder)
    train = split_pairs(table, "answer", 0.8, 42, may_hold_out_all=False).train
    with pytest.raises(InputError, match="p.jsonl: label: fewer than 2 pairs reach 0.5"):
        require_relevant(train, "p.jsonl")


def generic_rows() -> list[dict[str, object]]:
    return [
        row | {"question": "What is found?"} if i % 5 == 0 else row
        for i, row in enumerate(sample_rows()[:60])
    ]


def test_a_shared_question_is_searched_but_not_evaluated(
    tmp_path: Path, encoder: Encoder, caplog: pytest.LogCaptureFixture
) -> None:
    rows = used(write_jsonl(tmp_path / "p.jsonl", generic_rows()), encoder)
    both = split_pairs(rows, "answer", 0.8, 42, may_hold_out_all=False)
    assert both.n_rows == (50, 10)
    assert len(both.not_evaluated) == 2
    assert both.held_out.source_row[~both.held_out.relevant].tolist() == both.not_evaluated.tolist()
    trained = np.isin(both.held_out.anchor_hash, both.train.anchor_hash)
    assert trained.tolist() == (~both.held_out.relevant).tolist()
    assert [(text.kind, text.rows, text.files, text.line) for text in both.shared] == [
        ("question", 12, 12, 1)
    ]
    assert 'the question "What is found?" (line 1, 12 files)' in caplog.text
    assert "2 of the 10 held-out rows are not evaluated" in caplog.text


def test_a_shared_question_is_named_if_nothing_can_be_held_out(
    tmp_path: Path, encoder: Encoder
) -> None:
    same = [row | {"question": "What is found?"} for row in sample_rows()[:60]]
    rows = used(write_jsonl(tmp_path / "p.jsonl", same), encoder)
    with pytest.raises(
        InputError, match=r'all 60 rows share.*"What is found\?" \(line 1, 12 files'
    ):
        split_pairs(rows, "answer", 0.8, 42, may_hold_out_all=False)


def test_a_shared_question_is_reported_with_a_validation_file(
    tmp_path: Path, encoder: Encoder, caplog: pytest.LogCaptureFixture
) -> None:
    train = used(write_jsonl(tmp_path / "p.jsonl", generic_rows()), encoder)
    validation = used(write_jsonl(tmp_path / "own.jsonl", sample_rows()[70:80]), encoder)
    both = pairs_with_validation_file(train, validation, "answer")
    assert [text.files for text in both.shared] == [12]
    assert "can't tell files apart" in caplog.text
