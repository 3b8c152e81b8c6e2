"""What the folder of a model says, read as sentence-transformers reads it.

Nothing in it is believed, neither kinds nor sizes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from transformers import AutoConfig, PretrainedConfig

from embedft.encoder.pooling import Pooling

_Kind = TypeVar("_Kind")

_MOST_BYTES = 16 * 2**20
"""Of a file of settings."""
_LARGEST = 10_000_000
"""Of the sizes of a backbone; the largest vocabularies have a tenth of it."""
_SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
)


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A base model on disk and its settings.

    Attributes:
        name: The name that the user gave.
        source: Where it was found, as a phrase for people.
        folder: Folder of backbone and tokenizer.
        config: The backbone's configuration.
        pooling: ``mean`` or ``cls``.
        normalize: Whether embeddings are scaled to unit length.
        max_seq_length: Maximum tokens per text, special tokens included; None if not set.
        do_lower_case: Whether texts are lower-cased before the tokenizer.
        prompts: Prefixes of texts by name, as sentence-transformers keeps them.
        default_prompt_name: The prompt of texts for which no prompt is named.
        hub_id: Its id on the Hugging Face hub; None for a local folder.
    """

    name: str
    source: str
    folder: Path
    config: PretrainedConfig
    pooling: Pooling = "mean"
    normalize: bool = False
    max_seq_length: int | None = None
    do_lower_case: bool = False
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None
    hub_id: str | None = None

    def with_prompts(self, query: str | None, document: str | None) -> BaseModel:
        """A copy with other prompts for queries and documents; None keeps a prompt."""
        given = {"query": query, "document": document}
        prompts = {name: text for name, text in given.items() if text is not None}
        return replace(self, prompts=self.prompts | prompts)


def read_folder(name: str, root: Path, source: str) -> BaseModel:
    """The settings of the model in a folder.

    Args:
        name: The name that the user gave.
        root: The folder.
        source: Where it was found, as a phrase for people.

    Raises:
        ValueError: The model has a part that is not supported, or a file is not as it should be;
            other errors of reading are not caught.
    """
    if not (root / "modules.json").is_file():  # plain transformers: mean pooling, not normalised
        return BaseModel(name, source, root, _read_config(root))
    modules = _read_modules(root)
    if unknown := modules.keys() - {"Transformer", "Pooling", "Normalize"}:
        raise ValueError(
            f"its module {sorted(unknown)[0]} is not supported "
            "(only Transformer, Pooling, Normalize)"
        )
    if missing := {"Transformer", "Pooling"} - modules.keys():
        raise ValueError(f"its modules.json has no module {sorted(missing)[-1]}")
    folder = modules["Transformer"]
    transformer_settings = _read_object(folder / "sentence_bert_config.json")
    model_settings = _read_object(root / "config_sentence_transformers.json")
    return BaseModel(
        name=name,
        source=source,
        folder=folder,
        config=_read_config(folder),
        pooling=_pooling(_read_object(modules["Pooling"] / "config.json")),
        normalize="Normalize" in modules,
        max_seq_length=_setting(transformer_settings, "max_seq_length", int, 0) or None,
        do_lower_case=_setting(transformer_settings, "do_lower_case", bool, False),
        prompts=_read_prompts(model_settings),
        default_prompt_name=_setting(model_settings, "default_prompt_name", str, "") or None,
    )


def _pooling(config: dict[str, Any]) -> Pooling:
    """The pooling of a ``Pooling`` module; newer files name it, older ones have a flag per mode."""
    if not config.get("include_prompt", True):
        raise ValueError("its pooling excludes the prompt (include_prompt), which is not supported")
    modes = [key.removeprefix("pooling_mode_") for key, on in config.items() if on is True]
    if isinstance(named := config.get("pooling_mode"), str | list):
        modes = [named] if isinstance(named, str) else [str(mode) for mode in named]
    modes = [mode for mode in modes if mode != "include_prompt"]
    if modes in (["mean_tokens"], ["mean"]):
        return "mean"
    if modes in (["cls_token"], ["cls"]):
        return "cls"
    raise ValueError(f"its pooling {' + '.join(modes) or 'none'} is not supported (only mean, cls)")


def _read_json(path: Path) -> Any:
    """The content of a file of settings; None if there is no such file.

    Raises:
        ValueError: It is not JSON, or too large; a RecursionError if it is too deep.
    """
    if not path.is_file():
        return None
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"{path.name} is too large for a file of settings")
    return json.loads(path.read_text(encoding="utf-8"))


def _read_object(path: Path) -> dict[str, Any]:
    """The settings in a file; none if there is no such file.

    Raises:
        ValueError: The file does not hold settings by name.
    """
    content = _read_json(path)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} is not a JSON object")
    return content


def _setting(settings: dict[str, Any], name: str, kind: type[_Kind], default: _Kind) -> _Kind:
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


def _read_prompts(settings: dict[str, Any]) -> dict[str, str]:
    """The prompts of a model by name; null is an empty prompt.

    Raises:
        ValueError: They are not texts by name.
    """
    prompts: dict[str, Any] = _setting(settings, "prompts", dict, {})
    if not all(isinstance(text, str | None) for text in prompts.values()):
        raise ValueError("its prompts are not texts by name")
    return {name: text or "" for name, text in prompts.items()}


def _read_modules(root: Path) -> dict[str, Path]:
    """The folders of a model's modules, by the name of their class.

    Raises:
        ValueError: ``modules.json`` is not a list of modules inside the folder.
    """
    modules = _read_json(root / "modules.json")
    folders = {}
    for module in modules if isinstance(modules, list) else [None]:
        if not isinstance(module, dict):
            raise ValueError("modules.json is not a list of modules")
        path = PurePosixPath(_setting(module, "path", str, ""))
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"modules.json names {path}, which is not in the folder")
        folders[_setting(module, "type", str, "").rsplit(".", 1)[-1]] = root / path
    return folders


def _read_config(folder: Path) -> PretrainedConfig:
    """The configuration of a backbone, with sizes within reason.

    Raises:
        ValueError: A size is not one, or there are far more weights than the files can hold.
        Exception: Anything that transformers raises.
    """
    _read_object(folder / "config.json")
    config: PretrainedConfig = AutoConfig.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    sizes = {name: getattr(config, name, None) for name in _SIZES}
    for name, size in sizes.items():
        if size is not None and not (type(size) is int and 0 < size <= _LARGEST):
            raise ValueError(f"its {name} is {size}, not a number from 1 to {_LARGEST}")
    if sizes["hidden_size"] is None or sizes["vocab_size"] is None:
        raise ValueError("its config.json has no hidden_size or no vocab_size")
    pad = getattr(config, "pad_token_id", None)
    if pad is not None and not (type(pad) is int and pad >= 0):
        raise ValueError(f"its pad_token_id is {pad}")
    n_bytes = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    layers, hidden = sizes["num_hidden_layers"] or 1, sizes["hidden_size"]
    # A layer has at least 4 · hidden² weights. Some families share them, at most among 48 layers.
    if n_bytes and layers * hidden**2 > 48 * n_bytes:
        raise ValueError(f"its {layers} layers of size {hidden} do not fit its files")
    return config
