"""Short flags and the older tool's flat JSON config, put into the dotted words of the parser."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from embedft.cli.presets import preset
from embedft.errors import InputError
from embedft.tools.text import did_you_mean

SHORT_FLAGS = {
    "input_jsonl": "data.input_jsonl",
    "validation_jsonl": "data.validation_jsonl",
    "base_model": "model.base_model",
    "epochs": "trainer.max_epochs",
    "num_epochs": "trainer.max_epochs",
    "batch_size": "data.batch_size",
    "train_batch_size": "data.batch_size",
    "eval_batch_size": "data.eval_batch_size",
    "max_seq_length": "model.max_seq_length",
    "learning_rate": "model.learning_rate",
    "warmup_steps": "model.warmup_steps",
    "train_split": "data.train_split",
    "on_bad_rows": "data.on_bad_rows",
    "loss_function": "model.loss",
    "evaluation_steps": "trainer.val_check_interval",
    "seed": "seed_everything",
    "accelerator": "trainer.accelerator",
    "devices": "trainer.devices",
    "strategy": "trainer.strategy",
    "precision": "trainer.precision",
}

FLAT_CONFIG_KEYS = (
    "input_jsonl",
    "output_dir",
    "base_model",
    "max_seq_length",
    "num_epochs",
    "train_batch_size",
    "eval_batch_size",
    "learning_rate",
    "warmup_steps",
    "train_split",
    "loss_function",
    "evaluation_steps",
)

LOSSES = {
    "MultipleNegativesRankingLoss": ("multiplenegativesranking", "mnr", "mnrl"),
    "ContrastiveLoss": ("contrastive",),
    "CosineSimilarityLoss": ("cosinesimilarity", "cosine"),
    "OnlineContrastiveLoss": ("onlinecontrastive",),
}

# Flags that may stand alone, what they then mean, and which next argument is their value. A
# question after --compare is none: a name of a model has no blank.
_SWITCHES = ("--overwrite", "--json", "--onnx", "--private", "--dry_run")
VALUE_ALONE = dict.fromkeys(_SWITCHES, "true") | {"--compare": "auto"}
VALUE = dict.fromkeys(_SWITCHES, re.compile("true|false")) | {
    "--compare": re.compile(r"(?!-)[\w.~/:-]+", re.ASCII)
}

_TAKE_A_FILE = [[name] for name in ("check", "fit", "validate", "test", "predict")]

_SECTIONS = {"model", "data", "trainer"}


def expand_arguments(args: Sequence[str]) -> list[str]:
    """Command-line arguments with short flags and flat configs replaced by what they stand for.

    Configs come first, in their order: a flag wins over them wherever it stands.

    Raises:
        InputError: A flat config has an unknown key, or a loss or a config is unknown.
    """
    expanded: list[str] = []
    configs: list[str] = []
    rest = name_the_file(complete_flags(args))
    while rest:
        arg = rest.pop(0)
        flag, equals, value = arg.partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        is_config = flag in {"--config", "-c"}
        if not is_config and not (flag.startswith("--") and name in SHORT_FLAGS):
            expanded.append(arg)
            continue
        if not equals:
            if not rest:
                raise InputError(f"{flag}: needs a value")
            value = rest.pop(0)
        if is_config:
            configs += [flag, _config(value)]
        else:
            for target, setting in _settings(name, value):
                expanded.append(f"--{target}={setting}")
    return [*expanded[:1], *configs, *expanded[1:]]


def complete_flags(args: Sequence[str]) -> list[str]:
    """Arguments in which a flag that may stand alone has got the value that it then means."""
    completed = []
    for arg, following in zip_longest(args, args[1:]):
        alone = arg in VALUE_ALONE and not VALUE[arg].fullmatch(following or "-")
        completed.append(f"{arg}={VALUE_ALONE[arg]}" if alone else arg)
    return completed


def name_the_file(args: list[str]) -> list[str]:
    """``fit FILE``, with the file wherever no flag takes it, as ``fit --input_jsonl=FILE``."""
    named = any(arg.partition("=")[0] in {"--input_jsonl", "--data.input_jsonl"} for arg in args)
    for place in range(1, 0 if named or args[:1] not in _TAKE_A_FILE else len(args)):
        before, arg = args[place - 1 : place + 1]
        is_value = before.startswith("-") and "=" not in before
        if not arg.startswith("-") and not is_value:
            return [*args[:place], f"--input_jsonl={arg}", *args[place + 1 :]]
    return args


def _settings(name: str, value: Any) -> list[tuple[str, Any]]:
    """Dotted settings that a short name stands for."""
    if name == "loss_function":
        return [(SHORT_FLAGS[name], loss_class(str(value)))]
    if name == "evaluation_steps":
        if str(value) == "0":
            return [(SHORT_FLAGS[name], 1.0), ("trainer.check_val_every_n_epoch", 1)]
        # Counted over epochs: an epoch may be shorter than the interval.
        return [(SHORT_FLAGS[name], value), ("trainer.check_val_every_n_epoch", "null")]
    return [(SHORT_FLAGS[name], value)]


def loss_class(name: str) -> str:
    """The class that a loss's name means: ``mnrl``, ``contrastive``, ``ContrastiveLoss``, ...

    Raises:
        InputError: There is no such loss. Dotted names, of a loss of one's own, pass.
    """
    if "." in name:
        return name
    plain = name.lower().replace("_", "").replace("-", "").removesuffix("loss")
    for loss, names in LOSSES.items():
        if plain in names:
            return loss
    meant = did_you_mean(name, LOSSES, cutoff=0)
    raise InputError(f"loss_function: there is no {name}{meant} Known: {', '.join(LOSSES)}")


def _config(value: str) -> str:
    """A config argument: a preset becomes its file, the older tool's flat JSON nested."""
    if value == "-" or any(sign in value for sign in ("{", ": ", "\n", "://")):
        return value  # standard input, settings themselves, an address
    path = Path(value)
    if not path.is_file():
        return str(preset(value))
    if path.suffix != ".json":
        return value
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: not a JSON config: {error}") from None
    if not isinstance(content, dict) or _SECTIONS & content.keys():
        return value
    return json.dumps(nest_flat_config(content, str(path)))


def nest_flat_config(flat: dict[str, Any], path: str) -> dict[str, Any]:
    """The older tool's flat settings as nested ones.

    Raises:
        InputError: A key is unknown; the message names the nearest known one.
    """
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        if key not in FLAT_CONFIG_KEYS:
            meant = did_you_mean(key, FLAT_CONFIG_KEYS, cutoff=0)
            raise InputError(f"{path}: {key}: unknown key{meant}")
        if key == "output_dir":
            nested[key] = value
            continue
        for target, setting in _settings(key, value):
            section, _, name = target.partition(".")
            plain = None if setting == "null" else setting
            nested.setdefault(section, {})[name] = (
                {"class_path": plain} if key == "loss_function" else plain
            )
    return nested
