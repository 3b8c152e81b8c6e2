from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numbered_pairs import numbered_pairs

from embedft.data.batches import TrainBatch
from embedft.data.resume import EpochPosition, ResumeState, count_trained_on
from embedft.errors import InputError

FILES = {"input_jsonl": "p.jsonl", "validation_jsonl": None}
MADE_WITH: dict[str, Any] = {
    "files": FILES,
    "data_fingerprint": "settings-12-content",
    "batch_size": 8,
    "seed": 42,
    "train_split": 0.9,
    "split_seed": 42,
    "positive": "answer",
    "mine_negatives": False,
}


def test_a_state_is_stored_under_the_names_of_older_checkpoints() -> None:
    hashes = np.array([3, 2**64 - 1], dtype=np.uint64)
    state = ResumeState(1, 5, np.array([[1, 0]]), hashes, MADE_WITH)
    stored = state.state_dict()
    assert {"epoch", "batch", "mined", "trained_keys"} | set(MADE_WITH) == set(stored)
    again = ResumeState.of(stored)
    assert (again.epoch, again.batch) == (1, 5)
    assert again.made_with == MADE_WITH
    assert again.mined is not None
    assert again.mined.tolist() == [[1, 0]]
    assert again.trained_hashes is not None
    assert again.trained_hashes.tolist() == hashes.tolist()


@pytest.mark.parametrize(
    ("batch", "change", "message"),
    [
        (0, {"batch_size": 4}, ""),
        (3, {"batch_size": 4}, "inside an epoch: batch_size was 8, is 4"),
        (3, {"mine_negatives": True}, "inside an epoch: mine_negatives was False, is True"),
        (0, {"train_split": 0.8}, "train_split: was 0.9, is 0.8"),
        (0, {"max_files_per_question": 5}, "max_files_per_question: was None, is 5"),
        (0, {"data_fingerprint": "settings-12-other"}, "p.jsonl: its rows have changed"),
        (0, {"data_fingerprint": "others-12-content"}, "now tokenised differently"),
    ],
)
def test_a_changed_setting_is_refused_if_it_matters(
    batch: int, change: dict[str, Any], message: str
) -> None:
    saved = ResumeState(0, batch, None, None, MADE_WITH)
    if message:
        with pytest.raises(InputError, match=f"cannot resume.*{message}"):
            saved.refuse_other_run(MADE_WITH | change)
    else:
        saved.refuse_other_run(MADE_WITH | change)


def test_an_older_checkpoint_mined_no_negatives() -> None:
    stored = {"epoch": 0, "batch": 2, **MADE_WITH}
    del stored["mine_negatives"]
    saved = ResumeState.of(stored)
    assert saved.trained_hashes is None
    saved.refuse_other_run(MADE_WITH)
    with pytest.raises(InputError, match="mine_negatives was False, is True"):
        saved.refuse_other_run(MADE_WITH | {"mine_negatives": True})


@pytest.mark.parametrize("name", ["topic_batches", "file_batches"])
def test_batches_that_this_version_cannot_make_are_refused_inside_an_epoch(name: str) -> None:
    stored = {"epoch": 1, "topic_place": None, **MADE_WITH, name: True}
    ResumeState.of(stored).refuse_other_run(MADE_WITH)
    with pytest.raises(InputError, match=f"made with {name}, which this version does not have"):
        ResumeState.of({**stored, "batch": 2}).refuse_other_run(MADE_WITH)


def batch_of(epoch: int, index: int) -> TrainBatch:
    nothing = torch.zeros(0)
    return TrainBatch(nothing, nothing, None, nothing, (0,), epoch, index, 0)


def test_the_position_follows_the_last_consumed_batch() -> None:
    position = EpochPosition()
    position.start = (1, 2)
    assert (position.first_of(1), position.first_of(2)) == ((1, 2), (2, 0))
    assert position.next(lambda _: range(4)) == (1, 2)
    position.note(batch_of(1, 2), 1)
    assert position.next(lambda _: range(4)) == (1, 3)
    position.note(batch_of(1, 3), 1)
    assert position.next(lambda _: range(4)) == (2, 0)
    with pytest.raises(InputError, match="reload_dataloaders_every_n_epochs"):
        position.note(batch_of(1, 3), 2)


def test_questions_that_were_trained_on_are_counted() -> None:
    """By themselves, or by a relevant answer."""
    pairs = numbered_pairs([-1] * 4, [0, 1, 2, 2])
    hashes = np.arange(1, 9, dtype=np.uint64)
    held_out = replace(pairs, anchor_hash=hashes[[0, 1, 2, 2]], positive_hash=hashes[4:])
    assert count_trained_on(held_out, hashes[[0]]) == 1
    assert count_trained_on(held_out, hashes[[6, 7]]) == 1
    held_out = replace(held_out, relevant=np.array([True, True, True, False]))
    assert count_trained_on(held_out, hashes[[7]]) == 0
