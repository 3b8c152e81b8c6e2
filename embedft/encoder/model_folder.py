"""What the folder of a model says, read as sentence-transformers reads it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PretrainedConfig

from embedft.encoder.pooling import Pooling


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
    modules_file = root / "modules.json"
    if not modules_file.is_file():  # a plain transformers model: mean pooling, not normalised
        config = AutoConfig.from_pretrained(root, local_files_only=True, trust_remote_code=False)
        return BaseModel(name, source, root, config)
    modules = {
        module["type"].rsplit(".", 1)[-1]: root / module["path"]
        for module in json.loads(modules_file.read_text(encoding="utf-8"))
    }
    if unknown := modules.keys() - {"Transformer", "Pooling", "Normalize"}:
        raise ValueError(
            f"its module {sorted(unknown)[0]} is not supported "
            "(only Transformer, Pooling, Normalize)"
        )
    folder = modules["Transformer"]
    transformer_settings = _read_json(folder / "sentence_bert_config.json")
    model_settings = _read_json(root / "config_sentence_transformers.json")
    return BaseModel(
        name=name,
        source=source,
        folder=folder,
        config=AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False),
        pooling=_pooling(_read_json(modules["Pooling"] / "config.json")),
        normalize="Normalize" in modules,
        max_seq_length=transformer_settings.get("max_seq_length"),
        do_lower_case=bool(transformer_settings.get("do_lower_case", False)),
        prompts={key: text or "" for key, text in (model_settings.get("prompts") or {}).items()},
        default_prompt_name=model_settings.get("default_prompt_name"),
    )


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} is not a JSON object")
    return content


def _pooling(config: dict[str, Any]) -> Pooling:
    """The pooling of a ``Pooling`` module; newer files name it, older ones have a flag per mode."""
    if not config.get("include_prompt", True):
        raise ValueError("its pooling excludes the prompt (include_prompt), which is not supported")
    modes = [key.removeprefix("pooling_mode_") for key, on in config.items() if on is True]
    if isinstance(named := config.get("pooling_mode"), str | list):
        modes = [named] if isinstance(named, str) else list(named)
    modes = [mode for mode in modes if mode != "include_prompt"]
    if modes in (["mean_tokens"], ["mean"]):
        return "mean"
    if modes in (["cls_token"], ["cls"]):
        return "cls"
    raise ValueError(f"its pooling {' + '.join(modes) or 'none'} is not supported (only mean, cls)")
