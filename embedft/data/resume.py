"""Whether a fit goes on with the rows and batches that its checkpoint was made with.

What a fit was made with is ``files``, the paths by setting in the order of the fingerprint's parts,
and the settings of the plan: all that decides which rows make which batch.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

from embedft.errors import InputError

# Settings of a plan that older checkpoints don't name, and what their runs did.
_ADDED_LATER = {"topic_batches": False, "file_batches": False, "mine_negatives": False}


def refuse_other_rows(saved: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuses to go on with a run of other rows.

    What is held out of other rows, or by another split, may have been trained on; and what the run
    has measured is of other questions.

    Args:
        saved: What the checkpoint's fit was made with; one without fingerprint tells nothing.
        now: What this fit is made with.

    Raises:
        InputError: The files, how their texts are read, or the split are not what they were.
    """
    if "data_fingerprint" in saved and (changed := _other_rows(saved, now)):
        raise InputError(
            f"{changed}; the run can't go on so, its figures would be of other questions or "
            "texts: give what it was, or start a new run in another --output_dir without "
            "--ckpt_path (its exported model as --base_model is trained further)"
        )


def _other_rows(saved: dict[str, Any], now: dict[str, Any]) -> str:
    """What is no longer as it was, in words; empty if nothing."""
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
                return f"{path}: no longer the rows that the run was made with"
            return f"{path}: not the rows that the run was made with, of {before}"
        return (
            f"{path}: its texts are not read as they were (max_seq_length, prompts, positive, "
            "hard_negatives, the tokenizer or embedft itself changed)"
        )
    split = () if files["validation_jsonl"] else ("train_split", "split_seed")
    for name in ("positive", *split):
        if name in saved and saved[name] != now[name]:
            return f"{name}: was {saved[name]}, is {now[name]}"
    return ""


def refuse_other_batches(saved: dict[str, Any], settings: dict[str, Any]) -> None:
    """Refuses to go on inside an epoch whose batches would be others.

    Args:
        saved: What the checkpoint's fit was made with.
        settings: The settings of the plan now.

    Raises:
        InputError: A setting is not what it was.
    """
    for name, now in settings.items():
        if (before := saved.get(name, _ADDED_LATER.get(name))) != now:
            raise InputError(
                f"the checkpoint lies inside an epoch and was made with {name} "
                f"{before}, now {now}: its batches can't be continued; resume "
                "with the same, or start a new run without --ckpt_path last"
            )
