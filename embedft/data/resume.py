"""What a checkpoint keeps of the data, and whether a resumed fit can use it.

A fit is made with ``files``, the paths by setting in the order of the fingerprint's parts, and the
settings of the plan: all that decides which rows make which batch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sized
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from embedft.data.batches import TrainBatch
from embedft.data.pairs import Pairs
from embedft.errors import InputError
from embedft.table.keys import Hashes, Ints
from embedft.table.settings import Target

log = logging.getLogger(__name__)

# Settings of a plan that older checkpoints don't name, and what their runs did.
_ADDED_LATER = {"mine_negatives": False, "max_files_per_question": None}

# Ways to make batches that older versions had.
_REMOVED = ("topic_batches", "file_batches")


@dataclass(frozen=True, slots=True)
class ResumeState:
    """What a checkpoint keeps of the data.

    Attributes:
        epoch: Epoch of the first batch that was not consumed yet, from 0.
        batch: Index of that batch in its epoch, from 0.
        mined: (pairs, N) pairs whose positives are hard negatives of each, -1 for none, or None.
        trained_hashes: Hashes of all texts that were trained on; None in old checkpoints.
        made_with: The files and the settings of the plan.
    """

    epoch: int
    batch: int
    mined: Ints | None
    trained_hashes: Hashes | None
    made_with: dict[str, Any]

    def state_dict(self) -> dict[str, Any]:
        """The state under the names that checkpoints have always had."""
        assert self.trained_hashes is not None
        return {
            "epoch": self.epoch,
            "batch": self.batch,
            "mined": None if self.mined is None else _tensor(self.mined),
            "trained_keys": _tensor(self.trained_hashes.view(np.int64)),
            **self.made_with,
        }

    @classmethod
    def of(cls, state_dict: dict[str, Any]) -> ResumeState:
        """The state that a checkpoint holds."""
        rest = dict(state_dict)
        mined, trained = (rest.pop(name, None) for name in ("mined", "trained_keys"))
        return cls(
            epoch=rest.pop("epoch", 0),
            batch=rest.pop("batch", 0),
            mined=None if mined is None else mined.numpy(),
            trained_hashes=None if trained is None else trained.numpy().view(np.uint64),
            made_with=rest,
        )

    def refuse_other_run(self, made_with: dict[str, Any]) -> None:
        """Refuses to resume a run of other rows, or one inside an epoch of other batches.

        Args:
            made_with: What this fit is made with.

        Raises:
            InputError: The files, how their texts are read, or the split have changed; or the
                position is inside an epoch whose batches have changed.
        """
        refuse_other_rows(self.made_with, made_with)
        if self.batch:
            plan = {name: value for name, value in made_with.items() if name != "files"}
            refuse_other_batches(self.made_with, plan)


def _tensor(numbers: Ints) -> Tensor:
    return torch.from_numpy(numbers)


class EpochPosition:
    """How far the batches of an epoch are consumed.

    Attributes:
        start: Epoch and index of the first batch of this fit.
    """

    def __init__(self) -> None:
        self.start = (0, 0)
        self._consumed: tuple[int, int] | None = None

    def first_of(self, epoch: int) -> tuple[int, int]:
        """Epoch and index of the first batch, if the trainer begins this epoch."""
        return max(self.start, (epoch, 0))

    def note(self, batch: TrainBatch, epoch: int) -> None:
        """Notes a consumed batch.

        Args:
            batch: The batch.
            epoch: The epoch of the trainer.

        Raises:
            InputError: The batch is of another epoch.
        """
        if batch.epoch != epoch:
            raise InputError(
                "each epoch has new batches: Trainer needs reload_dataloaders_every_n_epochs=1;"
                " leave --trainer.reload_dataloaders_every_n_epochs out"
            )
        self._consumed = batch.epoch, batch.batch_index

    def next(self, batches: Callable[[int], Sized]) -> tuple[int, int]:
        """Epoch and index of the first batch that was not consumed yet.

        Args:
            batches: The batches of an epoch.
        """
        if self._consumed is None:
            return self.start
        epoch, index = self._consumed
        return (epoch, index + 1) if index + 1 < len(batches(epoch)) else (epoch + 1, 0)


class Planned(Protocol):
    """The settings of a datamodule that decide which rows make which batch."""

    batch_size: int
    seed: int
    train_split: float
    split_seed: int
    positive: Target
    max_files_per_question: int | None


def plan_settings(
    data: Planned, fingerprint: str, world_size: int, *, mines: bool
) -> dict[str, Any]:
    """Everything that decides which rows make which batch, by its name in checkpoints."""
    return {
        "data_fingerprint": fingerprint,
        "batch_size": data.batch_size,
        "world_size": world_size,
        "seed": data.seed,
        "train_split": data.train_split,
        "split_seed": data.split_seed,
        "positive": data.positive,
        "max_files_per_question": data.max_files_per_question,
        "mine_negatives": mines,
    }


def count_trained_on(held_out: Pairs, trained_hashes: Hashes) -> int:
    """How many held-out questions were trained on, or have an answer that was; warns if any.

    Args:
        held_out: Held-out pairs.
        trained_hashes: Hashes of all texts that were trained on.
    """
    pairs = held_out.only(held_out.relevant)
    is_trained = np.isin(pairs.anchor_hash, trained_hashes)
    is_trained |= np.isin(pairs.positive_hash, trained_hashes)
    count = len(np.unique(pairs.anchor_hash[is_trained]))
    if count:
        log.warning(
            "%d of the %d questions were trained on, or an answer to them was, so their metrics "
            "say nothing about new questions. Use the split of the run (--config config.yaml in "
            "its folder)",
            count,
            len(np.unique(pairs.anchor_hash)),
        )
    return count


def refuse_other_rows(saved: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuses to resume a run of other rows.

    Other rows, or another split, may hold out what was trained on. The metrics of the run so far
    are of other questions.

    Args:
        saved: What the checkpoint's fit was made with; one without fingerprint is accepted.
        now: What this fit is made with.

    Raises:
        InputError: The files, how their texts are read, or the split have changed.
    """
    if "data_fingerprint" in saved and (changed := _other_rows(saved, now)):
        raise InputError(
            f"cannot resume: {changed}, so metrics would not be comparable. Restore it, or start a "
            "new run in another --output_dir without --ckpt_path (to train the exported model "
            "further, give it as --base_model)"
        )


def _other_rows(saved: dict[str, Any], now: dict[str, Any]) -> str:
    """What has changed, in words; empty if nothing."""
    files, names = now["files"], saved.get("files", {})
    parts = (str(made["data_fingerprint"]).split("+") for made in (saved, now))
    for (name, path), old, new in zip_longest(files.items(), *parts):
        if old == new:
            continue
        if old is None:
            return f"{name}: was left out, is {path}"
        if new is None:
            return f"{name}: was {names.get(name, 'given')}, is left out"
        if old.partition("-")[2] != new.partition("-")[2]:
            before = names.get(name)
            if before in (None, path):
                return f"{path}: its rows have changed since the run"
            return f"{path}: its rows are not those of {before}, which the run was made with"
        return (
            f"{path}: its texts are now tokenised differently (max_seq_length, prompts, positive, "
            "hard_negatives, the tokenizer or embedft itself changed)"
        )
    split = () if files["validation_jsonl"] else ("train_split", "split_seed")
    for name in ("positive", "max_files_per_question", *split):
        before = saved.get(name, _ADDED_LATER.get(name, now.get(name)))
        if before != now.get(name):
            return f"{name}: was {before}, is {now.get(name)}"
    return ""


def refuse_other_batches(saved: dict[str, Any], settings: dict[str, Any]) -> None:
    """Refuses to resume inside an epoch whose batches have changed.

    Args:
        saved: What the checkpoint's fit was made with.
        settings: The settings of the plan now.

    Raises:
        InputError: A setting has changed.
    """
    for name in _REMOVED:
        if saved.get(name):
            raise InputError(
                f"cannot resume inside an epoch: its batches were made with {name}, which this "
                "version does not have. Finish the run with the version that began it, or start a "
                "new run without --ckpt_path last"
            )
    for name, now in settings.items():
        if (before := saved.get(name, _ADDED_LATER.get(name))) != now:
            raise InputError(
                f"cannot resume inside an epoch: {name} was {before}, is {now}, so its batches "
                "would change. Restore it, or start a new run without --ckpt_path last"
            )
