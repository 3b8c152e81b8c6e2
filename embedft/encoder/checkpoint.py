"""Reading and checking embedft's checkpoints; nothing in them is executed."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from embedft.encoder.checkpoint_schema import refuse_bad_values
from embedft.encoder.encoder import Encoder
from embedft.encoder.loading import resolve_max_seq_length
from embedft.errors import InputError
from embedft.tools.text import error_line

log = logging.getLogger(__name__)

_REQUIRED_KEYS = {"embedft_hyper_parameters", "state_dict", "global_step", "epoch"}


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint of embedft; nothing in it is executed.

    Raises:
        InputError: There is no such file, it is damaged (each part has a checksum), another
            program wrote it, a value is of the wrong kind, or a weight is NaN or infinite.
    """
    if not path.is_file():
        raise InputError(
            f"{path}: no such checkpoint; check --ckpt_path (best, last or a file) and --output_dir"
        )
    try:
        with zipfile.ZipFile(path) as parts:
            if any(part.compress_type != zipfile.ZIP_STORED for part in parts.infolist()):
                raise ValueError("a part is compressed")  # torch never does, and zeros are endless
            if (damaged := parts.testzip()) is not None:  # torch.load does not check
                raise ValueError(f"{damaged} is damaged")
        checkpoint = load_checkpoint(path)
    except Exception as error:  # from zipfile, pickle or torch; all mean the same to a user
        reason = error_line(error, 160, first_line=True)
        raise InputError(f"{path}: not a readable checkpoint: {reason}") from None
    if not isinstance(checkpoint, dict) or not checkpoint.keys() >= _REQUIRED_KEYS:
        raise InputError(f"{path}: is not a checkpoint of embedft; check --ckpt_path")
    try:
        refuse_bad_values(checkpoint)
    except Exception as error:
        raise InputError(f"{path}: {error_line(error)}; use another checkpoint") from None
    return checkpoint


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Loads a file that :func:`read_checkpoint` has checked; nothing in it is executed.

    The file is mapped into memory: a part can't reach beyond the end of the file.
    """
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)  # type: ignore[no-any-return]


def newest_checkpoint(last: Path) -> tuple[Path, dict[str, Any]]:
    """Reads ``last``; if it is missing or damaged, the newest good checkpoint of its folder.

    Warns about each file that it can't use.

    Raises:
        InputError: There is no good checkpoint. A run must not silently start from scratch.
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
                "%s; resuming from %s, step %d",
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
        f"{'; '.join(problems)}; there is no good checkpoint to resume from. To start a new run, "
        "give --overwrite instead of --ckpt_path last"
    )


def load_weights(encoder: Encoder, checkpoint: dict[str, Any], path: Path) -> None:
    """Loads a checkpoint's weights into an encoder.

    Raises:
        InputError: The checkpoint's run had another architecture.
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
                f"{path}: it was trained with lora {settings.get('lora')}; give the same config "
                "or --model.lora"
            ) from None
        raise InputError(
            f"{path}: its weights do not fit base model {encoder.base.name}; "
            f"it was trained from {settings.get('base_model')}: give that as --base_model"
        ) from None


def changed_settings(
    encoder: Encoder, settings: Mapping[str, Any], checkpoint: dict[str, Any]
) -> list[str]:
    """The settings with which an encoder embeds texts otherwise than a checkpoint's run did.

    Args:
        encoder: The current encoder.
        settings: The current module's settings; only the prompts are read.
        checkpoint: The checkpoint, which has the settings of its run.

    Returns:
        One phrase per setting, with both values.
    """
    saved, base = checkpoint["embedft_hyper_parameters"], encoder.base
    normalize = saved.get("normalize")
    limit = resolve_max_seq_length(base, encoder.tokenizer, saved.get("max_seq_length"))
    values = {
        "pooling": (saved.get("pooling") or base.pooling, encoder.pooling),
        "normalize": (base.normalize if normalize is None else normalize, encoder.normalize),
        "max_seq_length": (limit, encoder.max_seq_length),
    }
    for name in ("query_prompt", "document_prompt"):
        values[name] = (saved.get(name), settings[name])
    return [f"{name} (was {was}, is {now})" for name, (was, now) in values.items() if was != now]
