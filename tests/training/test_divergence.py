"""A run ends when its numbers are NaN or infinite."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from embedft.encoder.encoder import Encoder
from embedft.errors import InputError, RunFailedError
from embedft.training import divergence
from embedft.training.divergence import NonFiniteWatch, require_finite_weights

BATCH: Any = SimpleNamespace(epoch=1, batch_index=2)
DATA: Any = SimpleNamespace(
    train_batches=lambda epoch: SimpleNamespace(plan=[[f"{epoch}-{i}"] for i in range(3)])
)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_value_that_is_not_finite(monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    """The message names the value, the step and the ids of the batch, at most 20 of them."""
    ids = [f"paper-{i}" for i in range(25)]
    seen = []

    def pair_ids(data: Any, batch: list[str]) -> list[str]:
        seen.append(batch)
        return ids

    monkeypatch.setattr(divergence, "pair_ids", pair_ids)
    watch = NonFiniteWatch()
    watch.check(torch.tensor(0.5), "loss", 9, BATCH, DATA)
    with pytest.raises(RunFailedError) as error:
        watch.check(torch.tensor(value), "loss", 10, BATCH, DATA)
    said = str(error.value)
    assert (
        "the loss is NaN or infinite at step 10 (epoch 1, batch 2), rows with id: paper-0," in said
    )
    assert "paper-19 and 5 more; " in said
    assert "paper-20" not in said
    assert seen == [["1-2"]]


def test_the_input_was_changed_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(data: Any, batch: Any) -> list[str]:
        raise InputError("the file was changed")

    monkeypatch.setattr(divergence, "pair_ids", fails)
    with pytest.raises(RunFailedError, match="rows without known ids"):
        NonFiniteWatch().check(torch.tensor(torch.nan), "gradient norm", 1, BATCH, DATA)


def test_broken_weights_are_not_saved(tiny_model: Path) -> None:
    encoder = Encoder(str(tiny_model))
    require_finite_weights(encoder, 3)
    name, weight = list(encoder.named_parameters())[-1]
    weight.data.flatten()[-1] = torch.inf
    with pytest.raises(RunFailedError, match=f"weight {name} holds NaN or infinity at step 3"):
        require_finite_weights(encoder, 3)
