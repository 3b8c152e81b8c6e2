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
