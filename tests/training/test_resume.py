"""The settings of a run, compared with those of the checkpoint that it resumes."""

from __future__ import annotations

import pytest

from embedft.errors import InputError
from embedft.training.resume import SETTINGS, differences, refuse_other_weights


def test_settings_that_differ() -> None:
    saved = {"learning_rate": 1e-3, "seed": 42, "removed_since": 1, "warmup_steps": None}
    now = {"learning_rate": 5e-4, "seed": 42, "added_since": 2, "warmup_steps": 0}
    assert differences(saved, now) == [
        "learning_rate (was 0.001, is 0.0005)",
        "warmup_steps (was None, is 0)",
    ]
    assert differences({}, now) == []


@pytest.mark.parametrize(("was", "now"), [(None, 0), (0, None), (1, 2)])
def test_other_frozen_layers_are_refused(was: int | None, now: int | None) -> None:
    refuse_other_weights({SETTINGS: {"freeze_layers": was}}, was, "a")
    with pytest.raises(InputError, match=f"freeze_layers was {was} and is now {now}"):
        refuse_other_weights({SETTINGS: {"freeze_layers": was}}, now, "a")


def test_another_base_model_is_refused() -> None:
    """An older checkpoint does not know the weights that its run began with."""
    refuse_other_weights({}, None, "a")
    refuse_other_weights({SETTINGS: {"base_weights": "a"}}, None, "a")
    with pytest.raises(InputError, match="the weights of the base model are not those"):
        refuse_other_weights({SETTINGS: {"base_weights": "a"}}, None, "b")
