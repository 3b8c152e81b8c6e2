"""The subcommands that need no Trainer, and their help."""

from __future__ import annotations

import re
import shlex

import pytest
import yaml
from command_line import Capture, printed

from embedft.cli.commands import COMMANDS, command_flags, parse_command
from embedft.cli.help_pages import COMMAND_PAGES, TRAINER_PAGES


@pytest.mark.parametrize(
    ("name", "required"),
    [
        ("export", []),
        ("mine", ["input_jsonl", "output_jsonl"]),
        ("search", ["model", "input_jsonl"]),
    ],
)
def test_help_of_a_command_lists_each_flag(name: str, required: list[str], capsys: Capture) -> None:
    said = " ".join(printed([name, "--help"], capsys).split())
    defaults = command_flags(name)
    assert len(defaults) > 8
    assert all(f" --{flag} " in said for flag in defaults)
    shown = dict(re.findall(r"--(\w+) (?:(?! --\w).)*? \(default: (\S+)\)", said))
    assert shown == {flag: str(default) for flag, default in defaults.items() if default}
    assert re.findall(r"--(\w+) (?:(?! --\w).)*? \(required\)", said) == required


def test_every_example_parses(capsys: Capture) -> None:
    """Their files need not be there: nothing is read before the settings are checked."""
    for name, screen in TRAINER_PAGES.items():
        for example in screen.examples:
            flags = shlex.split(example.replace("--ckpt_path best", ""))
            assert yaml.safe_load(printed([name, *flags, "--print_config"], capsys))["data"]
    assert COMMANDS.keys() == COMMAND_PAGES.keys()
    for name, page in COMMAND_PAGES.items():
        for example in page.examples:
            parse_command(name, shlex.split(example))
