"""The settings files of a model's folder.

Nothing in them is believed: kinds are checked, and what is unknown is refused by its name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from embedft.encoder.pooling import POOLINGS, Pooling

_Kind = TypeVar("_Kind")

_MOST_BYTES = 16 * 2**20
"""Of a file of settings."""

# Files with the settings of the Transformer module; the first that is not empty counts.
_TRANSFORMER_FILES = [
    f"sentence_{family}_config.json"
    for family in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
]

_TEXT_MODALITY = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}

# Settings of the Transformer module that change nothing if they have one of these values.
_DEFAULTS: dict[str, tuple[Any, ...]] = {
    "transformer_task": ("feature-extraction",),
    "modality_config": (_TEXT_MODALITY,),
    "module_output_name": ("token_embeddings",),
    "processing_kwargs": ({}, None),
    "unpad_inputs": (None, True, False),
    "query_length": (None,),
    "document_length": (None,),
    "query_expansion": (None,),
    "tokenizer_name_or_path": (None,),
}

# Older and newer names of its groups of settings; the older name counts if both are there.
_GROUPS = {
    "model_args": "model_kwargs",
    "config_args": "config_kwargs",
    "tokenizer_args": "processor_kwargs",
}

# Settings in these groups that do not change embeddings.
_WITHOUT_EFFECT = {
    *("dtype", "torch_dtype", "attn_implementation", "low_cpu_mem_usage", "use_safetensors"),
    *("add_pooling_layer", "device_map", "use_cache"),
    *("token", "cache_dir", "revision", "subfolder", "local_files_only", "trust_remote_code"),
}


def read_json(path: Path) -> Any:
    """The content of a file of settings; None if there is no such file.

    Raises:
        ValueError: It is not JSON, or too large; a RecursionError if it is too deep.
    """
    if not path.is_file():
        return None
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"{path.name} is too large for a file of settings")
    return json.loads(path.read_text(encoding="utf-8"))


def read_object(path: Path) -> dict[str, Any]:
    """The settings in a file; none if there is no such file.

    Raises:
        ValueError: The file does not hold settings by name.
    """
    content = read_json(path)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} is not a JSON object")
    return content


def setting(settings: dict[str, Any], name: str, kind: type[_Kind], default: _Kind) -> _Kind:
    """A setting, or its default if it is missing or null.

    Raises:
        ValueError: It is of another kind.
    """
    value = settings.get(name)
    if value is None:
        return default
    if type(value) is not kind:
        raise ValueError(f"its {name} is not of kind {kind.__name__}")
    return value


def refuse_unknown(settings: Mapping[str, Any], known: set[str], part: str) -> None:
    """Refuses settings that are not known.

    Raises:
        ValueError: There are some; the message names the first.
    """
    if unknown := sorted(settings.keys() - known):
        raise ValueError(f"{part} has the unknown setting {unknown[0]}")


def refuse_other_names(settings: Mapping[str, Any], part: str) -> None:
    """Refuses a module that reads or writes anything but the embedding of a text.

    Raises:
        ValueError: It does.
    """
    for key in ("module_input_name", "module_output_name"):
        if settings.get(key) not in ("sentence_embedding", None):
            raise ValueError(f"{part} has {key} {settings[key]}, which is not supported")


def transformer_settings(folder: Path) -> dict[str, Any]:
    """The settings of the Transformer module, its groups under their newer names.

    Raises:
        ValueError: A setting is unknown, or would change embeddings and is not supported.
    """
    settings = next(filter(None, (read_object(folder / file) for file in _TRANSFORMER_FILES)), {})
    for old, new in _GROUPS.items():
        newer = setting(settings, new, dict, {})
        group: dict[str, Any] = setting(settings, old, dict, newer)
        settings.pop(old, None)
        settings[new] = {key: group[key] for key in group if key not in _WITHOUT_EFFECT}
    known = {*_DEFAULTS, *_GROUPS.values(), "max_seq_length", "do_lower_case"}
    refuse_unknown(settings, known, "its Transformer")
    for key, values in _DEFAULTS.items():
        if key in settings and settings[key] not in values:
            raise ValueError(f"its Transformer has {key} {settings[key]}, which is not supported")
    for name in ("model_kwargs", "config_kwargs"):
        if options := sorted(settings[name]):
            raise ValueError(f"its Transformer has {options[0]} in {name}, which is not supported")
    return settings


def pooling_mode(config: dict[str, Any]) -> Pooling:
    """The pooling of a ``Pooling`` module; newer files name it, older ones have a flag per mode.

    Raises:
        ValueError: It is not supported.
    """
    flags = {key: config[key] for key in config if key.startswith("pooling_mode_")}
    known = {"word_embedding_dimension", "embedding_dimension", "pooling_mode", "include_prompt"}
    refuse_unknown(config, known | flags.keys(), "its Pooling")
    if not config.get("include_prompt", True):
        raise ValueError("its pooling excludes the prompt (include_prompt), which is not supported")
    modes = [
        key.removeprefix("pooling_mode_").removesuffix("_tokens") for key in flags if flags[key]
    ]
    modes = ["cls" if mode == "cls_token" else mode for mode in modes]
    if isinstance(named := config.get("pooling_mode"), str | list) and named:
        modes = [named] if isinstance(named, str) else [str(mode) for mode in named]
    modes = modes or ["mean"]
    for pooling in POOLINGS:
        if modes == [pooling]:
            return pooling
    raise ValueError(
        f"its pooling {' + '.join(modes)} is not supported (only {', '.join(POOLINGS)})"
    )
