"""Reading checkpoints: whole, of embedft, with finite weights, and nothing in them is executed."""

from __future__ import annotations

import logging
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from embedft.encoder.encoder import Encoder
from embedft.encoder.loading import resolve_max_seq_length
from embedft.errors import InputError
from embedft.tools.finite import all_finite
from embedft.tools.text import error_line

log = logging.getLogger(__name__)

_PARTS = {"embedft_hyper_parameters", "state_dict", "global_step", "epoch"}


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint of embedft; nothing in it is executed.

    Raises:
        InputError: There is none, it is damaged (each part has a checksum), it is another
            program's, or a weight is NaN or infinite.
    """
    if not path.is_file():
        raise InputError(
            f"{path}: no such checkpoint; check --ckpt_path (best, last or a file) and --output_dir"
        )
    try:
        with zipfile.ZipFile(path) as parts:
            if (damaged := parts.testzip()) is not None:  # torch.load does not look
                raise InputError(f"{path}: not a readable checkpoint: {damaged} is damaged")
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (
        RuntimeError,
        OSError,
        EOFError,
        pickle.UnpicklingError,
        ValueError,
        KeyError,
        zipfile.BadZipFile,
    ) as error:
        reason = error_line(error, 160, first_line=True)
        raise InputError(f"{path}: not a readable checkpoint: {reason}") from None
    if not isinstance(checkpoint, dict) or not checkpoint.keys() >= _PARTS:
        raise InputError(f"{path}: is not a checkpoint of embedft; check --ckpt_path")
    for name, weight in checkpoint["state_dict"].items():
        if not all_finite(weight):
            raise InputError(f"{path}: weight {name} holds NaN or infinity")
    return checkpoint


def newest_checkpoint(last: Path) -> tuple[Path, dict[str, Any]]:
    """``last``, or if that is missing or bad, the newest good one of its folder, with a warning.

    Raises:
        InputError: There is none: a run never starts from scratch unasked.
    """
    others = [path for path in last.parent.glob("*.ckpt") if path != last]
    others.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
    problems = []
    for path in (last, *others):
        try:
            checkpoint = read_checkpoint(path)
        except InputError as error:
            problems.append(str(error))
            continue
        if problems:
            log.warning(
                "%s; going on from %s, step %d",
                "; ".join(problems),
                path,
                checkpoint["global_step"],
            )
        return path, checkpoint
    if not last.is_file() and not others:
        raise InputError(
            f"{last}: no such checkpoint; check --output_dir, or leave --ckpt_path out"
        )
    raise InputError(
        f"{'; '.join(problems)}; there is no good checkpoint to go on from; start anew with "
        "--overwrite in place of --ckpt_path last"
    )


def load_weights(encoder: Encoder, checkpoint: dict[str, Any], path: Path) -> None:
    """Puts a checkpoint's weights into an encoder.

    Raises:
        InputError: They are those of another architecture.
    """
    prefix = "encoder."
    state = {
        name.removeprefix(prefix): tensor
        for name, tensor in checkpoint["state_dict"].items()
        if name.startswith(prefix)
    }
    try:
        encoder.load_state_dict(state)
    except RuntimeError:
        settings = checkpoint["embedft_hyper_parameters"]
        if settings.get("lora") != encoder.lora:
            raise InputError(
                f"{path}: it was trained with lora {settings.get('lora')}: give the same config "
                "or --model.lora"
            ) from None
        raise InputError(
            f"{path}: its weights do not fit base model {encoder.base.name}; "
            f"it was trained from {settings.get('base_model')}: give that as --base_model"
        ) from None


def changed_settings(
    encoder: Encoder, settings: Mapping[str, Any], checkpoint: dict[str, Any]
) -> list[str]:
    """In words, where an encoder does not embed texts as a checkpoint's run did.

    Args:
        encoder: Of now.
        settings: The module's of now; of them the prompts.
        checkpoint: With those of its run.
    """
    before, base = checkpoint["embedft_hyper_parameters"], encoder.base
    normalize = before.get("normalize")
    limit = resolve_max_seq_length(base, encoder.tokenizer, before.get("max_seq_length"))
    pairs = {
        "pooling": (before.get("pooling") or base.pooling, encoder.pooling),
        "normalize": (base.normalize if normalize is None else normalize, encoder.normalize),
        "max_seq_length": (limit, encoder.max_seq_length),
    }
    for name in ("query_prompt", "document_prompt"):
        pairs[name] = (before.get(name), settings[name])
    return [f"{name} (was {was}, is {now})" for name, (was, now) in pairs.items() if was != now]
