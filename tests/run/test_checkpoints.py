"""Which checkpoints a run keeps, and that a write that fails damages none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from embedft.encoder.checkpoint import read_checkpoint
from embedft.errors import RunFailedError
from embedft.run.checkpoints import AtomicCheckpointIO, copy_checkpoint, evaluation_follows


def test_a_copy_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    best, last = tmp_path / "best.ckpt", tmp_path / "last.ckpt"
    last.write_bytes(b"earlier")
    with pytest.raises(RunFailedError, match=r"last.ckpt: can't be written.*No such file"):
        copy_checkpoint(best, last)
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]
    assert last.read_bytes() == b"earlier"
    best.write_bytes(b"later")
    copy_checkpoint(best, last)
    best.write_bytes(b"no longer the same")
    assert last.read_bytes() == b"later"


def test_checkpoints_are_kept_by_count(fit: Callable[..., Path]) -> None:
    folder = fit("--save_steps=1", "--save_total_limit=3", "--trainer.max_steps=6")
    names = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert names == ["best.ckpt", "last.ckpt", "step-4.ckpt", "step-5.ckpt"]
    for name, step in (("last", 6), ("step-4", 4), ("step-5", 5)):
        assert read_checkpoint(folder / "checkpoints" / f"{name}.ckpt")["global_step"] == step


def test_best_and_last_are_two_files(fit: Callable[..., Path]) -> None:
    """If the last is the best, they are equal; damage to one does not reach the other."""
    folder = fit("--trainer.max_steps=2") / "checkpoints"
    best, last = folder / "best.ckpt", folder / "last.ckpt"
    assert best.read_bytes() == last.read_bytes()
    best.write_bytes(b"no")
    assert read_checkpoint(last)["global_step"] == 2


def test_a_save_that_fails_leaves_the_earlier_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 1}, path)
    with pytest.raises(AttributeError):
        AtomicCheckpointIO().save_checkpoint({"step": lambda: 2}, path)  # can't be pickled
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]
    assert torch.load(path) == {"step": 1}


@pytest.mark.parametrize(
    ("state", "batch", "follows"),
    [
        ({"check_val_every_n_epoch": 1, "val_check_batch": 7}, 6, True),
        ({"check_val_every_n_epoch": 1, "val_check_batch": 7}, 5, False),
        ({"check_val_every_n_epoch": 1, "val_check_batch": 3}, 5, True),
        ({"check_val_every_n_epoch": 2, "val_check_batch": 7}, 6, False),  # the epoch is the first
        ({"check_val_every_n_epoch": 1, "val_check_batch": None}, 6, False),
        ({"check_val_every_n_epoch": None, "val_check_batch": 5}, 0, True),  # counted over epochs
        ({"check_val_every_n_epoch": None, "val_check_batch": 4}, 0, False),
    ],
)
def test_evaluation_follows(state: dict[str, Any], batch: int, follows: bool) -> None:
    loop = SimpleNamespace(total_batch_idx=9)
    trainer: Any = SimpleNamespace(current_epoch=0, fit_loop=loop, **state)
    assert evaluation_follows(trainer, batch) is follows
