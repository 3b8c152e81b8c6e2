"""What a checkpoint may hold: a file that was changed by hand, or made to harm, is refused.

Only kinds of values are checked here. :mod:`embedft.training.resume` compares shapes with those of
the run that is resumed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from embedft.tools.finite import all_finite

_MOST_PARTS = 1_000_000
"""Values of a checkpoint at most: lists that hold each other many times would never end."""
_DEEPEST = 50
"""Levels of nesting at most."""

_Check = Callable[[Any], bool]


def refuse_bad_values(checkpoint: Mapping[str, Any]) -> None:
    """Checks the kind of every value that is read from a checkpoint.

    Args:
        checkpoint: As it was read.

    Raises:
        ValueError: Names the first value that is of a wrong kind, or a weight that is not finite.
    """
    _refuse_odd_parts(checkpoint)
    for path, check, wanted in _EXPECTED:
        for name, value in _values(checkpoint, path.split("/")):
            if not check(value):
                raise ValueError(f"{name} is not {wanted}")
    for name, weight in checkpoint["state_dict"].items():
        if not all_finite(weight):
            raise ValueError(f"weight {name} has NaN or infinity")


def is_number(value: Any) -> bool:
    """Whether a value is an int or a float that fits a double; no bool."""
    return type(value) is float or is_count(value) or (type(value) is int and value > -(2**53))


def is_count(value: Any) -> bool:
    """Whether a value is an int from 0 to 2^53; no bool."""
    return type(value) is int and 0 <= value <= 2**53


def _refuse_odd_parts(checkpoint: Mapping[str, Any]) -> None:
    """Refuses endless nesting, and tensors that are not plain ones in memory of their own size."""
    open_parts: list[tuple[Any, int]] = [(checkpoint, 0)]
    count = 0
    while open_parts:
        part, depth = open_parts.pop()
        count += 1
        if count > _MOST_PARTS or depth > _DEEPEST:
            raise ValueError("it holds too many values")
        if isinstance(part, Tensor):
            if not _is_plain(part):
                raise ValueError("it holds a tensor that is not a plain one")
        elif isinstance(part, Mapping):
            open_parts += [(value, depth + 1) for item in part.items() for value in item]
        elif isinstance(part, list | tuple | set):
            open_parts += [(value, depth + 1) for value in part]


def _is_plain(tensor: Tensor) -> bool:
    if type(tensor) not in (Tensor, torch.nn.Parameter) or tensor.is_nested:
        return False
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        return False
    # A stride of 0 makes petabytes of four bytes.
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def _values(part: Any, path: list[str], name: str = "") -> Iterator[tuple[str, Any]]:
    """The values at a path and their names; ``*`` is every key, and a key may be missing."""
    if not path:
        yield name, part
        return
    if not isinstance(part, Mapping):
        return  # an expectation of its own refuses that
    keys = list(part) if path[0] == "*" else [path[0]] if path[0] in part else []
    for key in keys:
        yield from _values(part[key], path[1:], f"{name}.{key}".lstrip("."))


def _kind(*kinds: type) -> _Check:
    return lambda value: isinstance(value, kinds)


def _optional(check: _Check) -> _Check:
    return lambda value: value is None or check(value)


def _is_settings(value: Any) -> bool:
    """Whether a value is a dict of plain values, by name."""
    return isinstance(value, dict) and all(type(key) is str for key in value)


def _is_version(value: Any) -> bool:
    """Whether a value is a version of Lightning from 2 on; it changes checkpoints of older ones."""
    return (
        isinstance(value, str) and re.fullmatch(r"[2-9]\.\d{1,3}(\.\w{1,20})*", value) is not None
    )


def _is_weights(value: Any) -> bool:
    return _is_settings(value) and all(
        isinstance(weight, Tensor) and not weight.is_complex() for weight in value.values()
    )


def _is_evaluation(value: Any) -> bool:
    if not _is_settings(value) or not is_count(value.get("step")):
        return False
    return is_count(value.get("epoch")) and all(
        is_number(number) or (name == "gain" and _is_gain(number)) for name, number in value.items()
    )


def _is_gain(value: Any) -> bool:
    return _is_settings(value) and all(is_number(number) for number in value.values())


def _is_progress(value: Any) -> bool:
    """Whether a value is counts and flags, in dicts and lists."""
    if isinstance(value, dict | list):
        return all(_is_progress(v) for v in (value.values() if type(value) is dict else value))
    return value is None or isinstance(value, bool) or is_count(value)


def _ints(dims: int) -> _Check:
    return lambda value: (
        isinstance(value, Tensor) and value.dtype == torch.int64 and value.dim() == dims
    )


def _is_plan_value(value: Any) -> bool:
    return (
        value is None
        or isinstance(value, str | bool | Tensor)
        or is_number(value)
        or _is_settings(value)
    )


_TEXT, _COUNT, _NUMBER = _kind(str), is_count, is_number
_HYPER = "embedft_hyper_parameters"
_DATA = "EmbeddingDataModule"
_FILES = "callbacks/RunFiles"

# Path, check, what is wanted; each part of a path is checked before what is inside it.
_EXPECTED: tuple[tuple[str, _Check, str], ...] = (
    ("epoch", _COUNT, "a count"),
    ("global_step", _COUNT, "a count"),
    ("pytorch-lightning_version", _is_version, "a version that embedft has used"),
    ("state_dict", _is_weights, "weights by name"),
    (_HYPER, _is_settings, "settings by name"),
    (f"{_HYPER}/base_model", _TEXT, "a text"),
    (f"{_HYPER}/pooling", _optional(_TEXT), "a text"),
    (f"{_HYPER}/normalize", _optional(_kind(bool)), "true or false"),
    (f"{_HYPER}/max_seq_length", _optional(_COUNT), "a count"),
    (f"{_HYPER}/query_prompt", _optional(_TEXT), "a text"),
    (f"{_HYPER}/document_prompt", _optional(_TEXT), "a text"),
    (f"{_HYPER}/lora", _optional(_is_settings), "settings by name"),
    ("embedft_run_settings", _is_settings, "settings by name"),
    ("optimizer_states", _kind(list), "a list"),
    ("lr_schedulers", _kind(list), "a list"),
    ("loops", _is_progress, "counts by name"),
    ("callbacks", _is_settings, "states by name"),
    (_FILES, _is_settings, "the evaluations"),
    (f"{_FILES}/evaluations", _is_settings, "evaluations by name"),
    (f"{_FILES}/evaluations/*", _is_evaluation, "an evaluation"),
    (f"{_FILES}/findings", _is_settings, "results by name"),
    (f"{_FILES}/findings/*", _is_settings, "results by name"),
    (f"{_FILES}/top", _optional(_kind(Tensor)), "a tensor"),
    (_DATA, _is_settings, "the state of the data"),
    (f"{_DATA}/*", _is_plan_value, "a setting"),
    (f"{_DATA}/epoch", _COUNT, "a count"),
    (f"{_DATA}/batch", _COUNT, "a count"),
    (f"{_DATA}/topic_place", _optional(_ints(1)), "a list of counts"),
    (f"{_DATA}/mined", _optional(_ints(2)), "a table of counts"),
    (f"{_DATA}/trained_keys", _optional(_ints(1)), "a list of hashes"),
    (f"{_DATA}/files", _is_settings, "paths by name"),
    (f"{_DATA}/files/*", _optional(_TEXT), "a path"),
    (f"{_DATA}/data_fingerprint", _TEXT, "a text"),
)
