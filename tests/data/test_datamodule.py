from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from loaded_data import loaded

from embedft.data.datamodule import EmbeddingDataModule
from embedft.encoder.encoder import Encoder
from embedft.errors import InputError


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"batch_size": 0}, "batch_size: is 0, must be at least 1"),
        ({"eval_batch_size": -1}, "eval_batch_size: is -1, must be at least 1"),
        ({"negatives_per_pair": 0}, "negatives_per_pair: is 0, must be at least 1"),
        ({"hard_negatives": -1}, "hard_negatives: is -1, must be at least 0"),
        ({"num_workers": -2}, "num_workers: is -2, must be at least 0"),
        ({"train_split": 1.0}, "train_split: is 1.0, must lie between 0 and 1"),
    ],
)
def test_settings_out_of_range(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        EmbeddingDataModule("p.jsonl", **setting)


def test_a_validation_file_needs_no_split() -> None:
    data = EmbeddingDataModule("p.jsonl", validation_jsonl="own.jsonl", train_split=2.0)
    assert data.train_split == 2.0


def test_what_has_been_loaded_for_a_fit_can_be_predicted(pairs: Path, encoder: Encoder) -> None:
    data = loaded(pairs, encoder)
    task = data.task
    data.load(encoder, False, "test")
    assert data.task is task
    data.load(encoder, False, "predict")
    assert len(data.predicted_texts) == 120
    data.load(encoder, False, "test")
    assert len(data.pairs) == 55
    data.load(encoder, False, "fit")


def test_a_state_of_the_same_run_is_resumed(pairs: Path, encoder: Encoder) -> None:
    data = loaded(pairs, encoder)
    state = data.state_dict()
    assert (state["epoch"], state["batch"], state["batch_size"]) == (0, 0, 64)
    again = loaded(pairs, encoder)
    again.load_state_dict(state | {"epoch": 2, "batch": 1})
    assert (again.state_dict()["epoch"], again.state_dict()["batch"]) == (2, 1)
    other = loaded(pairs, encoder, split_seed=7)
    with pytest.raises(InputError, match="split_seed: was 42, is 7"):
        other.load_state_dict(state)
