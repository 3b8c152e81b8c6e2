from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from embedft.encoder.checkpoint import (
    changed_settings,
    load_weights,
    newest_checkpoint,
    read_checkpoint,
)
from embedft.encoder.encoder import Encoder
from embedft.errors import InputError


def write(path: Path, step: int = 1, **changes: Any) -> Path:
    """A small checkpoint; its time of change is its step."""
    content: dict[str, Any] = {
        "embedft_hyper_parameters": {"base_model": "tiny"},
        "state_dict": {"weight": torch.ones(2)},
        "global_step": step,
        "epoch": 0,
    }
    torch.save(content | changes, path)
    os.utime(path, (step, step))
    return path


def test_a_checkpoint_is_read(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(write(tmp_path / "a.ckpt", 7))
    assert checkpoint["global_step"] == 7
    assert torch.equal(checkpoint["state_dict"]["weight"], torch.ones(2))


def test_a_changed_byte_is_found(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ckpt", state_dict={"weight": torch.full((1000,), 3.0)})
    content = bytearray(path.read_bytes())
    at = content.index(torch.full((4,), 3.0).numpy().tobytes())
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a readable checkpoint: .* is damaged"):
        read_checkpoint(path)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_weights_must_be_finite(tmp_path: Path, bad: float) -> None:
    path = write(tmp_path / "a.ckpt", state_dict={"weight": torch.tensor([1.0, bad])})
    with pytest.raises(InputError, match="weight weight has NaN or infinity"):
        read_checkpoint(path)


def test_nothing_is_executed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ckpt", extra=tiny.Command(tmp_path / "marker"))
    with pytest.raises(InputError, match="not a readable checkpoint"):
        read_checkpoint(path)
    assert not (tmp_path / "marker").exists()


def test_the_newest_good_checkpoint_replaces_a_damaged_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    last = tmp_path / "last.ckpt"
    last.write_bytes(b"damaged")
    for step in (3, 8, 5):
        write(tmp_path / f"step-{step}.ckpt", step)
    with caplog.at_level(logging.WARNING, "embedft"):
        path, checkpoint = newest_checkpoint(last)
    assert (path.name, checkpoint["global_step"]) == ("step-8.ckpt", 8)
    assert f"resuming from {path}, step 8" in caplog.text
    assert newest_checkpoint(write(last, 1))[0] == last


def test_no_good_checkpoint(tmp_path: Path) -> None:
    last = tmp_path / "last.ckpt"
    with pytest.raises(InputError, match="no such checkpoint"):
        newest_checkpoint(last)
    last.write_bytes(b"damaged")
    with pytest.raises(InputError, match="there is no good checkpoint to resume from"):
        newest_checkpoint(last)


def of(encoder: Encoder, **settings: Any) -> dict[str, Any]:
    """A checkpoint of an encoder, as far as it is read here."""
    state = {f"encoder.{name}": weight for name, weight in encoder.weights().items()}
    return {"state_dict": state | {"other": torch.ones(1)}, "embedft_hyper_parameters": settings}


def test_weights_are_loaded(tiny_model: Path) -> None:
    encoder = Encoder(str(tiny_model))
    checkpoint = of(encoder)
    with torch.no_grad():
        next(encoder.parameters()).zero_()
    load_weights(encoder, checkpoint, Path("a.ckpt"))
    for name, weight in encoder.weights().items():
        assert torch.equal(weight, checkpoint["state_dict"][f"encoder.{name}"])


def test_weights_of_another_model(tiny_model: Path, tmp_path: Path) -> None:
    other = Encoder(str(tiny.build(tmp_path / "other", "distilbert")))
    encoder = Encoder(str(tiny_model))
    with pytest.raises(InputError, match="it was trained from other: give that as --base_model"):
        load_weights(encoder, of(other, base_model="other"), Path("a.ckpt"))
    with pytest.raises(InputError, match=r"it was trained with lora \{'r': 4\}"):
        load_weights(encoder, of(other, lora={"r": 4}), Path("a.ckpt"))


@pytest.mark.parametrize(
    ("saved", "expected"),
    [
        ({}, []),
        ({"pooling": "mean", "normalize": True, "max_seq_length": 48}, []),
        ({"pooling": "cls"}, ["pooling (was cls, is mean)"]),
        ({"normalize": False}, ["normalize (was False, is True)"]),
        ({"max_seq_length": 20}, ["max_seq_length (was 20, is 48)"]),
        ({"query_prompt": "q: "}, ["query_prompt (was q: , is None)"]),
    ],
)
def test_changed_settings(tiny_model: Path, saved: dict[str, Any], expected: list[str]) -> None:
    """What a run did not set is compared by the value of its base model's folder."""
    encoder = Encoder(str(tiny_model))
    settings = {"query_prompt": None, "document_prompt": None}
    assert changed_settings(encoder, settings, {"embedft_hyper_parameters": saved}) == expected
