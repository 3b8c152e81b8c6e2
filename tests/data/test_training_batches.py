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
    topics = loaded(pairs, encoder, topic_batches=True).training
    order = np.arange(len(topics.pairs))[::-1]
    topics.resume(order[1:], order[:, None])
    assert (topics.topic_position, topics.mined) == (None, None)
    topics.resume(order, order[:, None])
    assert topics.topic_position is order
    assert topics.mined is None, "this run does not mine"


def test_a_new_order_of_topics_makes_other_batches(pairs: Path, encoder: Encoder) -> None:
    training = loaded(pairs, encoder, topic_batches=True).training
    plans = []
    for seed in (0, 1):
        training.order_by_topic(np.random.default_rng(seed).permutation(len(training.pairs)))
        plans.append(training.of_epoch(0, 8, 0, 1).plan)
        assert training.of_epoch(0, 8, 0, 1).plan is plans[-1]
    assert not np.array_equal(plans[0].pairs, plans[1].pairs)


def test_negatives_of_the_file_are_not_mined(
    tmp_path: Path, encoder: Encoder, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_jsonl(tmp_path / "p.jsonl", with_negatives(sample_rows()[:60]))
    with caplog.at_level(logging.INFO):
        training = loaded(path, encoder, mine_negatives=True).training
    assert not training.recipe.mine_negatives
    assert "mine_negatives: none are mined, as the file names negatives for" in caplog.text
