"""A base model, read from its folder as sentence-transformers 6 reads it.

A part or a setting that is not supported is refused by its name.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from transformers import PretrainedConfig

from embedft.encoder.folder.config import read_config
from embedft.encoder.folder.settings import (
    pooling_mode,
    read_json,
    read_object,
    refuse_other_names,
    setting,
    transformer_settings,
)
from embedft.encoder.pooling import Pooling

log = logging.getLogger(__name__)

ADAPTER_FILE = "adapter_config.json"

_MODEL_KEYS = {
    *("__version__", "model_type", "requirements", "prompts", "default_prompt_name"),
    *("similarity_fn_name", "truncate_dim"),
}

_HEAD = ("Dense", "LayerNorm", "Dropout")
_MODULES = ("Transformer", "Pooling", *_HEAD, "Normalize")


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A base model on disk and its settings.

    Attributes:
        name: The name that the user gave.
        source: Where it was found, as a phrase for people.
        folder: Folder of the backbone.
        config: The backbone's configuration.
        tokenizer_folder: Folder of the tokenizer.
        tokenizer_options: Settings that replace those in the tokenizer's files.
        adapter: Folder of adapters to merge into the backbone; None if there are none.
        pooling: How token vectors become one vector.
        head: Kind and folder of each module between pooling and normalisation.
        normalize: Whether embeddings are scaled to unit length.
        truncate_dim: Only this number of first dimensions is an embedding; None for all.
        similarity: How sentence-transformers compares embeddings: ``cosine``, ``dot``, ...
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
    tokenizer_folder: Path
    tokenizer_options: dict[str, Any] = field(default_factory=dict)
    adapter: Path | None = None
    pooling: Pooling = "mean"
    head: tuple[tuple[str, Path], ...] = ()
    normalize: bool = False
    truncate_dim: int | None = None
    similarity: str = "cosine"
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

    @property
    def query_prompt(self) -> str:
        """The text before each question."""
        return self._prompt("query")

    @property
    def document_prompt(self) -> str:
        """The text before each passage."""
        return self._prompt("document", "passage", "corpus")

    def prompts_by_task(self) -> dict[str, str]:
        """The prompts, with ``query`` and ``document`` as sentence-transformers looks for them."""
        named = {"query": self.query_prompt, "document": self.document_prompt}
        return self.prompts | (named if any(self.prompts.values()) else {})

    def _prompt(self, *names: str) -> str:
        """The first of these prompts that the model has, or else its default prompt."""
        for name in (*names, self.default_prompt_name):
            if name in self.prompts:
                return self.prompts[name]
        return ""


def read_folder(name: str, root: Path, source: str, locate: Callable[[str], Path]) -> BaseModel:
    """The settings of the model in a folder.

    Args:
        name: The name that the user gave.
        root: The folder.
        source: Where it was found, as a phrase for people.
        locate: Finds the folder of the model that adapters belong to.

    Raises:
        ValueError: The model has a part that is not supported, or a file is not as it should be;
            other errors of reading are not caught.
    """
    if not (root / "modules.json").is_file():
        return _plain_model(name, root, source, locate)
    folder, pooling_folder, head, normalize = _read_modules(root)
    settings = transformer_settings(folder)
    options = settings["processor_kwargs"]
    length = setting(settings, "max_seq_length", int, 0)
    of_model = read_object(root / "config_sentence_transformers.json")
    if unknown := sorted(of_model.keys() - _MODEL_KEYS):
        log.warning(
            "base model %s: config_sentence_transformers.json has %s, which neither "
            "sentence-transformers nor embedft uses",
            name,
            ", ".join(unknown),
        )
    if (kind := of_model.get("model_type", "SentenceTransformer")) != "SentenceTransformer":
        raise ValueError(f"it is a {kind} model, only SentenceTransformer is supported")
    prompts = _read_prompts(of_model)
    default = setting(of_model, "default_prompt_name", str, "")
    if default and default not in {"query", "document", *prompts}:
        raise ValueError(f"its default_prompt_name {default} is not among its prompts")
    return BaseModel(
        name=name,
        source=source,
        **_backbone(folder, locate),
        tokenizer_options=options,
        pooling=pooling_mode(read_object(pooling_folder / "config.json")),
        head=head,
        normalize=normalize,
        truncate_dim=setting(of_model, "truncate_dim", int, 0) or None,
        similarity=setting(of_model, "similarity_fn_name", str, "cosine"),
        max_seq_length=setting(options, "model_max_length", int, length) or None,
        do_lower_case=setting(settings, "do_lower_case", bool, False),
        prompts=prompts,
        default_prompt_name=default or None,
    )


def _plain_model(name: str, root: Path, source: str, locate: Callable[[str], Path]) -> BaseModel:
    """A model of transformers: not normalised; mean pooling, or the last token if it is causal."""
    backbone = _backbone(root, locate)
    architectures = getattr(backbone["config"], "architectures", None) or [""]
    causal = architectures[0].endswith("ForCausalLM")
    causal = causal and getattr(backbone["config"], "is_causal", True)
    return BaseModel(name, source, pooling="lasttoken" if causal else "mean", **backbone)


def _backbone(folder: Path, locate: Callable[[str], Path]) -> dict[str, Any]:
    """The fields of :class:`BaseModel` that say which files hold backbone and tokenizer."""
    adapter = read_object(folder / ADAPTER_FILE)
    backbone = folder
    if adapter and not (folder / "config.json").is_file():
        backbone = locate(setting(adapter, "base_model_name_or_path", str, ""))
    has_tokenizer = (folder / "tokenizer_config.json").is_file()
    return {
        "folder": backbone,
        "config": read_config(backbone),
        "tokenizer_folder": folder if has_tokenizer else backbone,
        "adapter": folder if adapter else None,
    }


def _read_modules(root: Path) -> tuple[Path, Path, tuple[tuple[str, Path], ...], bool]:
    """Folders of backbone, pooling and head, and whether embeddings are normalised at the end."""
    listed, modules = read_json(root / "modules.json"), []
    for module in listed if isinstance(listed, list) else [None]:
        if not isinstance(module, dict):
            raise ValueError("modules.json is not a list of modules")
        path = PurePosixPath(setting(module, "path", str, ""))
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"modules.json names {path}, which is not in the folder")
        type_name = setting(module, "type", str, "")
        library, _, kind = type_name.rpartition(".")
        if not library.startswith("sentence_transformers") or kind not in _MODULES:
            raise ValueError(
                f"its module {type_name or 'without type'} is not supported (only "
                f"{', '.join(_MODULES)} of sentence-transformers)"
            )
        modules.append((kind, root / path))
    kinds = [kind for kind, _ in modules]
    for needed in ("Transformer", "Pooling"):
        if needed not in kinds:
            raise ValueError(f"its modules.json has no module {needed}")
    normalize = kinds[-1:] == ["Normalize"]
    head = modules[2 : len(modules) - normalize]
    if kinds[:2] != ["Transformer", "Pooling"] or any(kind not in _HEAD for kind, _ in head):
        raise ValueError(
            f"its modules {', '.join(kinds)} are not supported in this order (only Transformer, "
            f"Pooling, then {', '.join(_HEAD)}, and Normalize at the end)"
        )
    if normalize:
        refuse_other_names(read_object(modules[-1][1] / "config.json"), "its Normalize")
    return modules[0][1], modules[1][1], tuple(head), normalize


def _read_prompts(settings: dict[str, Any]) -> dict[str, str]:
    """The prompts of a model by name; null is an empty prompt.

    Raises:
        ValueError: They are not texts by name.
    """
    prompts: dict[str, Any] = setting(settings, "prompts", dict, {})
    if not all(isinstance(text, str | None) for text in prompts.values()):
        raise ValueError("its prompts are not texts by name")
    return {name: text or "" for name, text in prompts.items()}
