"""The parser's errors, in one line that says what to type."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from embedft.cli.flags import SHORT_FLAGS
from embedft.cli.help import PROG
from embedft.cli.help_pages import PAGES
from embedft.encoder.base_model import best_model_of_run
from embedft.tools.text import did_you_mean, one_line

_REMOVED = {
    "data.topic_batches",
    "data.file_batches",
    "additive_margin",
    "label_smoothing",
}
_OTHER_NAMES = {
    "train": "fit",
    "eval": "test",
    "evaluate": "test",
    "encode": "predict",
    "embed": "predict",
    "convert": "export",
    "lr": "learning_rate",
    "bs": "batch_size",
    "model": "base_model",
    "model_name": "base_model",
    "data": "input_jsonl",
    "input": "input_jsonl",
    "output": "output_dir",
    "out": "output_dir",
    "per_device_train_batch_size": "batch_size",
    "num_train_epochs": "epochs",
    "max_length": "max_seq_length",
    "loss": "loss_function",
    "resume": "ckpt_path",
    "gpus": "devices",
}
"""What other programs call a subcommand or a flag, and what it is called here."""

_SHORT = {dotted: short for short, dotted in reversed(SHORT_FLAGS.items())}


def friendly_error(message: str, command: str, flags: Iterable[str]) -> str:
    """An error of the parser in one line, with the most similar name for an unknown one.

    Args:
        message: Of jsonargparse or argparse, any number of lines.
        command: The subcommand, or what was typed instead of it.
        flags: The names of its flags, without ``--``.
    """
    known = list(flags)
    if names := re.match(r"the following arguments are required: (.*)", message):
        plain = [name.removeprefix("data.") for name in _without(command, names[1]).split(", ")]
        wanted = ", ".join(f"--{name.lstrip('-')}" for name in plain)
        return f"{wanted}: missing; for example: {_example(command)}"
    key = re.match(r'Parser key "([^"]+)":', message)
    if key and (said := _wrong_value(_without(command, key[1]), message)):
        return said
    if model := re.match(r"Parser key \"model\":\s+Unable to load config '([^']+)'", message):
        meant = best_model_of_run(Path(model[1])) or model[1]
        return f"--model: {model[1]}: is not a config; did you mean --base_model {meant}?"
    if option := re.match(r"Subcommand '\w+' does not accept option '([^']+)'", message):
        hint = _removed(option[1]) or did_you_mean(option[1], known)
        return f"{option[1]}: there is no such setting{hint}"
    if yaml := re.match(r"Problems parsing config: (.*)", message, re.S):
        return f"--config: not a YAML file: {one_line(yaml[1])}"
    if unknown := re.match(r"[Uu]nrecognized arguments: (\S+)", message):
        return one_line(message) + _instead(unknown[1], command, known)
    return one_line(message)


def _removed(name: str) -> str:
    """What to do about a setting of an earlier version; empty for another name."""
    return "; it was removed in this version, so delete it" if name in _REMOVED else ""


def root_cause(error: BaseException) -> str:
    """Why the class of a setting refused its arguments, in one line.

    If a setting may be one class or a list, the parser tries both and reports both failures.
    """
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    entry = r"^  - (?!Not a valid subclass|Expected )(.+?)(?=\n  - |\nGiven value)"
    tried = re.findall(entry, str(error), re.M | re.S)
    return one_line((tried or [str(cause)])[0]).rstrip("!.")


def _instead(unknown: str, command: str, known: list[str]) -> str:
    if command.startswith("-"):
        return f"; a subcommand comes first, such as: {_example('fit')}"
    if not unknown.startswith("-"):
        if unknown.endswith(".jsonl") and "input_jsonl" in known:
            return f"; give a file of pairs as --input_jsonl {unknown}"
        return f"; give settings as --flag VALUE, see {PROG} {command} --help"
    name = unknown.partition("=")[0].lstrip("-")
    return other_name(name, known, "--") or f"; {PROG} {command} --help_all lists all flags"


def other_name(name: str, known: Iterable[str], prefix: str = "") -> str:
    """``; did you mean NAME?`` for what other programs call it, or for a similar name."""
    ours = _OTHER_NAMES.get(name.replace("-", "_"))
    names = list(known)
    return f"; did you mean {prefix}{ours}?" if ours in names else did_you_mean(name, names, prefix)


def _wrong_value(key: str, message: str) -> str | None:
    """The message for a setting whose value the parser refuses; None if it is another error."""
    if missing := re.search(r"File does not exist: '?([^'\n]+)", message):
        return f"--{key}: {missing[1]}: no such file"
    of_class = r"Problem with given class_path '.+':\n( +)Parser key \"(.+)\":((?:\n\1 +.*)+)"
    if (inner := re.search(of_class, message)) and (
        said := _wrong_value(f"{key}.{inner[2]}", inner[3])
    ):
        return said
    if path := re.search(r"Problem with given class_path '([^']+)':\s+(.*)", message):
        name = path[1].removeprefix("embedft.")
        if unknown := re.match(r"Option '(\w+)' is not accepted", path[2]):
            see = f"; {PROG} fit --{key}.help={name} lists those of {name}"
            return f"{key}.{unknown[1]}: there is no such setting{_removed(unknown[1]) or see}"
        return f"{key}: {path[1]}: {path[2]}"
    expected = re.findall(r"Expected an? (?:<class ')?(.+?)(?:'>.*|\. Got .*|$)", message, re.M)
    value = re.search(r"(?:Given|Got) value: (.*)", message)
    if not (expected and value):
        return None
    # After this the parser prints the content of a file that the value names.
    expected = [re.sub(r"(dot import path string).*", r"\1", kind) for kind in expected]
    kinds = [_kind(kind) for kind in expected if not kind.startswith(("NoneType", "path but"))]
    short = f" (--{_SHORT[key]})" if key in _SHORT else ""
    return f"{key}{short}: is {value[1]}, expected {' or '.join(kinds)}"


def _kind(kind: str) -> str:
    """A type in words."""
    if choices := re.match(r"typing\.Literal\[(.*)\]", kind):
        return " or ".join(choice.strip(" '") for choice in choices[1].split(","))
    words = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}
    return words.get(kind, kind)


def _example(command: str) -> str:
    example = PAGES[command].examples[-1] if command in PAGES else "--help"
    return f"{PROG} {command} {example}"


def _without(command: str, keys: str) -> str:
    return re.sub(rf"\b{re.escape(command)}\.(?=\w)", "", keys)
