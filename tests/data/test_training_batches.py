from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from loaded_data import loaded
from tiny import sample_rows, with_negatives, write_jsonl

from embedft.encoder.encoder import Encoder


def test_mined_negatives_become_negatives_of_the_pairs(pairs: Path, encoder: Encoder) -> None:
    training = loaded(pairs, encoder, mine_negatives=True, hard_negatives=9).training
    assert (training.n_hard_negatives, training.pairs.negatives) == (4, None)
    mined = np.full((len(training.pairs), 4), -1)
    mined[0, :2] = [3, 1]
    training.take_mined(mined)
    assert training.pairs.negatives is not None
    assert training.pairs.negatives.counts.tolist() == [2] + [0] * (len(mined) - 1)
    assert training.pairs.negatives.key[:2].tolist() == training.pairs.positive_id[[3, 1]].tolist()


def test_a_resumed_run_takes_over_what_it_needs(pairs: Path, encoder: Encoder) -> None:
    mining = loaded(pairs, encoder, mine_negatives=True).training
    mined = np.full((len(mining.pairs), 4), -1)
    mining.resume(mined)
    assert mining.mined is not None
    other = loaded(pairs, encoder, mine_negatives=True).training
    other.resume(mined[1:])
    assert other.mined is None, "it is of other pairs"
    plain = loaded(pairs, encoder, mine_negatives=False).training
    plain.resume(mined)
    assert plain.mined is None, "this run does not mine"


def test_negatives_of_the_file_are_not_mined(
    tmp_path: Path, encoder: Encoder, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_jsonl(tmp_path / "p.jsonl", with_negatives(sample_rows()[:60]))
    with caplog.at_level(logging.INFO):
        training = loaded(path, encoder, mine_negatives=True).training
    assert not training.mines
    assert "mine_negatives: none are mined, as the file names negatives for" in caplog.text


def test_rows_of_a_shared_question_share_batches_but_are_no_negatives(
    tmp_path: Path, encoder: Encoder
) -> None:
    """All but one row of a file ask the same: kept apart, they would make batches of few pairs."""
    rows = [
        row | {"question": "What is found?"} if i % 5 else row
        for i, row in enumerate(sample_rows()[:60])
    ]
    data = loaded(write_jsonl(tmp_path / "p.jsonl", rows), encoder, train_split=0.8)
    batches = data.training.of_epoch(0, 16, 0, 1)
    assert len(batches) == -(-len(data.pairs) // 16)
    batch = batches[0]
    assert batch.candidates is not None
    anchor = data.pairs.anchor_id[batch.pairs.numpy()]
    same = anchor[:, None] == anchor
    assert same.sum() > 100
    np.testing.assert_array_equal(batch.candidates.mask.numpy(), ~same | np.eye(16, dtype=bool))


def test_rows_of_a_shared_answer_rotate(tmp_path: Path, encoder: Encoder) -> None:
    """One of them in each full batch; over the epochs, each row is trained on."""
    rows = [row | {"answer": "Yes."} if i % 5 else row for i, row in enumerate(sample_rows()[:60])]
    data = loaded(write_jsonl(tmp_path / "p.jsonl", rows), encoder, train_split=0.8)
    plans = [data.training.of_epoch(epoch, 4, 0, 1).plan for epoch in range(4)]
    full = -(-len(data.pairs) // 4)
    assert all(len(plan) == full for plan in plans)
    assert set(np.concatenate([plan.pairs for plan in plans])) == set(range(len(data.pairs)))


def test_shared_questions_are_dropped_if_asked_for(tmp_path: Path, encoder: Encoder) -> None:
    rows = [
        row | {"question": "What is found?"} if i % 5 == 0 else row
        for i, row in enumerate(sample_rows()[:60])
    ]
    path = write_jsonl(tmp_path / "p.jsonl", rows)
    kept, dropped = (
        loaded(path, encoder, max_files_per_question=files).fit_data for files in (12, 11)
    )
    assert [
        len(data.searched_pairs[0]) + len(data.searched_pairs[1]) for data in (kept, dropped)
    ] == [60, 48]
    assert (len(kept.shared), dropped.shared) == (1, ())
