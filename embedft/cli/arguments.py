"""The command line as it is typed, put into the words of the parser.

Short flags become settings (``--epochs`` is ``--trainer.max_epochs``), a preset's name becomes its
file, and the older tool's flat JSON config becomes a nested one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from embedft.cli.flags import FLAT_CONFIG_KEYS, SHORT_FLAGS, SWITCHES
from embedft.cli.help_pages import TRAINER_PAGES
from embedft.cli.presets import preset, refuse_odd_config
from embedft.errors import InputError
from embedft.losses import LOSSES
from embedft.tools.text import did_you_mean

_SECTIONS = {"model", "data", "trainer"}
_PROMPTS = {"--model.query_prompt", "--model.document_prompt"}
_TRUTH = re.compile("true|false")


def expand_arguments(args: Sequence[str]) -> list[str]:
    """Command-line arguments with short flags and flat configs replaced by settings.

    Configs come first, in their order, so that a flag wins over a config that follows it.

    Raises:
        InputError: A flat config has an unknown key, or a loss or a config is unknown.
    """
    expanded: list[str] = []
    configs: list[str] = []
    rest = name_the_file(complete_switches(args, SWITCHES))
    while rest:
        arg = rest.pop(0)
        flag, equals, value = arg.partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        is_config = flag in {"--config", "-c"}
        if flag in _PROMPTS:
            if not equals and rest:
                value = rest.pop(0)
            expanded.append(f"{flag}={_prompt(value)}")
            continue
        if not is_config and not (flag.startswith("--") and name in SHORT_FLAGS):
            expanded.append(arg)
            continue
        if not equals:
            if not rest:
                raise InputError(f"{flag}: needs a value")
            value = rest.pop(0)
        if is_config:
            configs += [part for config in _configs(value) for part in (flag, config)]
        else:
            for target, setting in _settings(name, value):
                expanded.append(f"--{target}={setting}")
    return [*expanded[:1], *configs, *expanded[1:]]


def _prompt(text: str) -> str:
    """A prompt as the parser takes it, which reads what begins with ``#`` as a comment.

    Raises:
        InputError: It begins with ``#``.
    """
    if text.lstrip().startswith("#"):
        raise InputError(
            f"prompt {text!r}: begins with #, which a flag can't take. Give it in a --config file, "
            "in quotation marks"
        )
    return text


def complete_switches(
    args: Sequence[str],
    switches: Collection[str],
    default: str = "true",
    values: re.Pattern[str] = _TRUTH,
) -> list[str]:
    """Arguments in which each flag that stands without a value has its default value.

    Args:
        args: As they are typed.
        switches: Names of the flags that may stand without a value, without ``--``.
        default: The value that such a flag then has.
        values: What the next argument must look like to be the value of the flag.
    """
    completed = []
    for arg, following in zip_longest(args, args[1:], fillvalue=""):
        is_switch = arg.startswith("--") and arg.removeprefix("--") in switches
        alone = is_switch and not values.fullmatch(following)
        completed.append(f"{arg}={default}" if alone else arg)
    return completed


def name_the_file(args: list[str]) -> list[str]:
    """``fit FILE`` as ``fit --input_jsonl=FILE``; FILE is an argument that no flag takes."""
    named = any(arg.partition("=")[0] in {"--input_jsonl", "--data.input_jsonl"} for arg in args)
    if named or not args or args[0] not in TRAINER_PAGES:
        return args
    for index in range(1, len(args)):
        before, arg = args[index - 1 : index + 1]
        is_value = before.startswith("-") and "=" not in before
        if not arg.startswith("-") and not is_value:
            return [*args[:index], f"--input_jsonl={arg}", *args[index + 1 :]]
    return args


def _settings(name: str, value: Any) -> list[tuple[str, Any]]:
    """The settings that a short flag stands for, with their values."""
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

    A dotted name, of the user's own class, stays as it is.

    Raises:
        InputError: There is no such loss.
    """
    if "." in name:
        return name
    plain = _plain(name)
    for known, loss in LOSSES.items():
        if plain in (_plain(known), *loss.short_names):
            return known
    meant = did_you_mean(name, LOSSES, cutoff=0)
    raise InputError(f"loss_function: there is no {name}{meant} Known: {', '.join(LOSSES)}")


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "").removesuffix("loss")


def _configs(value: str) -> list[str]:
    """A config as the parser takes it.

    A preset is its file. A flat JSON file is nested JSON, after the preset with the older tool's
    defaults.
    """
    if value == "-" or any(sign in value for sign in ("{", ": ", "\n", "://")):
        return [value]  # standard input, settings themselves, an address
    path = Path(value)
    if not path.is_file():
        return [str(preset(value))]
    refuse_odd_config(path)
    if path.suffix != ".json":
        return [value]
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: not a JSON config: {error}") from None
    if not isinstance(content, dict) or _SECTIONS & content.keys():
        return [value]
    return [str(preset("baseline")), json.dumps(nest_flat_config(content, str(path)))]


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
