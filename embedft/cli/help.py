"""What ``--help`` prints: one screen of what matters first. ``--help_all`` prints the rest."""

from __future__ import annotations

import sys
from argparse import SUPPRESS, Action, RawDescriptionHelpFormatter
from collections.abc import Iterable
from shutil import get_terminal_size
from textwrap import wrap
from typing import Any

from jsonargparse import DefaultHelpFormatter
from lightning.pytorch.cli import LightningArgumentParser

from embedft.cli.flags import SHORT_FLAGS
from embedft.cli.screens import EXAMPLES, FLAGS, SCREENS

PROG = "python -m embedft"
DESCRIPTION = "Fine-tune a sentence-embedding model on question/answer pairs, and measure it."


ALL_FLAGS = """

Short flags, each the same as the dotted one below:
""" + "\n".join(f"  --{short:17} --{dotted}" for short, dotted in SHORT_FLAGS.items())


class HelpFormatter(DefaultHelpFormatter, RawDescriptionHelpFormatter):
    """Keeps the lines of the description; shows no markup of docstrings."""

    def _expand_help(self, action: Action) -> str:
        return super()._expand_help(action).replace("``", "").replace(" (default: null)", "")

    def format_help(self) -> str:
        """The whole text."""
        return super().format_help().replace("``", "")


class ScreenFormatter(HelpFormatter):
    """A line or two a flag, as on the other screens: what it does and its default, no type."""

    def start_section(self, heading: str | None) -> None:
        """Starts a group without its title: the description has said it."""
        super().start_section(None)

    def _format_action(self, action: Action) -> str:
        if action.dest == "help":
            return ""
        name = action.option_strings[-1] if action.option_strings else action.dest
        return f"{_entry(name, self._expand_help(action))}\n"

    def _get_help_string(self, action: Action) -> str:
        text = action.help or ""
        if action.required:
            text += " (required)"
        elif action.default not in (None, False, SUPPRESS):
            text += " (default: %(default)s)"
        return text


class Parser(LightningArgumentParser):
    """A parser whose ``--help`` is one screen."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.add_argument("--help_all", action=_HelpAll, help="List every setting and exit.")
        add_quiet(self)

    def print_help(self, file: Any = None) -> None:
        """Prints the screen of this parser's subcommand; without one, the list of them."""
        name = self.prog.split()[-1]
        text = one_screen(name, self.get_defaults()) if name in SCREENS else self.description
        print(text, file=file or sys.stdout)


def parser_settings(name: str) -> dict[str, Any]:
    """How the parser of a subcommand is made."""
    screen = SCREENS[name]
    return {
        "usage": f"{PROG} {name} [--config FILE] [--flag VALUE ...]",
        "description": screen.summary + ALL_FLAGS,
        "formatter_class": HelpFormatter,
        "exit_on_error": False,
    }


class _HelpAll(Action):
    def __init__(self, option_strings: list[str], dest: str, help: str) -> None:
        super().__init__(option_strings, SUPPRESS, nargs=0, default=SUPPRESS, help=help)

    def __call__(self, parser: Any, *rest: Any) -> None:
        print(parser.format_help())
        parser.exit()


class _Listed(_HelpAll):
    """A flag that is taken off the command line before it is parsed."""


def add_quiet(parser: Any) -> None:
    """Lists ``--quiet`` among the flags of a parser, or of a group of one."""
    parser.add_argument("--quiet", action=_Listed, help=FLAGS["quiet"])


def one_screen(name: str, defaults: Any) -> str:
    """The first help of one of :data:`SCREENS`.

    Args:
        name: The subcommand.
        defaults: Of its parser.
    """
    screen = SCREENS[name]
    file = "FILE" if name == "check" else "--input_jsonl FILE"
    lines = [f"usage: {PROG} {name} {file} [--config FILE] [--flag VALUE ...]", ""]
    lines += [screen.summary, *wrap(screen.details, _width()), "", examples(name), ""]
    for flag in screen.flags:
        dotted = SHORT_FLAGS.get(flag, flag)
        default = defaults.get(dotted)
        if flag == "loss_function":
            default = default.class_path.rpartition(".")[2]
        text = FLAGS[flag]
        if default not in (None, False):
            text += f" (default: {default})"
        lines.append(_entry(f"--{flag}", text))
    lines += [
        "",
        f"  {PROG} {name} --help_all       every setting: the model's, the data's, Lightning's",
        f"  {PROG} {name} --print_config   the same as YAML, to be changed and given to --config",
    ]
    return "\n".join(lines)


def overview(summaries: Iterable[tuple[str, str]]) -> str:
    """The help without a subcommand: its description and the list of them."""
    lines = [DESCRIPTION, "", "subcommands:"]
    lines += [_entry(name, summary) for name, summary in summaries]
    lines += [
        "",
        "examples:",
        f"  {PROG} fit {SCREENS['fit'].examples[0]}",
        f"  {PROG} test {SCREENS['test'].examples[1]}",
        "",
        f"{PROG} SUBCOMMAND --help says more of one.",
    ]
    return "\n".join(lines)


def examples(name: str) -> str:
    """Two command lines that one may type."""
    screen = SCREENS.get(name)
    some = screen.examples if screen else EXAMPLES.get(name, ())
    return "\n".join(["examples:", *(f"  {PROG} {name} {example}" for example in some)])


def _entry(name: str, text: str) -> str:
    lines = wrap(text, _width() - 21, break_on_hyphens=False)  # so that a value can be copied
    return f"  {name:18} " + f"\n{'':21}".join(lines)


def _width() -> int:
    return max(60, min(100, get_terminal_size((100, 24)).columns))
