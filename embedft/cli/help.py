"""What ``--help`` prints: one page with what matters first. ``--help_all`` prints the rest."""

from __future__ import annotations

import sys
from argparse import SUPPRESS, Action, RawDescriptionHelpFormatter
from shutil import get_terminal_size
from textwrap import wrap
from typing import Any

from jsonargparse import DefaultHelpFormatter
from lightning.pytorch.cli import LightningArgumentParser

from embedft.cli.flags import HELP, SHORT_FLAGS, flags_of_page
from embedft.cli.help_pages import PAGES, TRAINER_PAGES

PROG = "python -m embedft"
DESCRIPTION = "Fine-tune a sentence-embedding model on question/answer pairs, and evaluate it."


SHORT_FLAGS_LIST = """

Short flags, each the same as the dotted one below:
""" + "\n".join(f"  --{short:17} --{dotted}" for short, dotted in SHORT_FLAGS.items())


class HelpFormatter(DefaultHelpFormatter, RawDescriptionHelpFormatter):
    """Keeps the line breaks of the description; drops the markup of docstrings."""

    def _expand_help(self, action: Action) -> str:
        return super()._expand_help(action).replace("``", "").replace(" (default: null)", "")

    def format_help(self) -> str:
        """The whole text."""
        return super().format_help().replace("``", "")


class PageFormatter(HelpFormatter):
    """A line or two for each flag: what it does and its default, no type."""

    def start_section(self, heading: str | None) -> None:
        """Starts a group without its title, which repeats the description."""
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
    """A parser whose ``--help`` fits on one screen."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.add_argument("--help_all", action=_HelpAll, help="List every setting and exit.")
        add_quiet(self)

    def print_help(self, file: Any = None) -> None:
        """Prints the page of this parser's subcommand; without one, the list of subcommands."""
        name = self.prog.split()[-1]
        text = help_page(name, self.get_defaults()) if name in TRAINER_PAGES else self.description
        print(text, file=file or sys.stdout)


def parser_settings(name: str) -> dict[str, Any]:
    """How the parser of a subcommand is made."""
    return {
        "usage": f"{PROG} {name} [--config FILE] [--flag VALUE ...]",
        "description": PAGES[name].summary + SHORT_FLAGS_LIST,
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
    """A flag that is removed from the command line before the parser sees it."""


def add_quiet(parser: Any) -> None:
    """Lists ``--quiet`` among the flags of a parser, or of a group of one."""
    parser.add_argument("--quiet", action=_Listed, help=HELP["quiet"])


def help_page(name: str, defaults: Any) -> str:
    """The first help of a subcommand that runs the Trainer.

    Args:
        name: The subcommand.
        defaults: Those of its parser.
    """
    page = PAGES[name]
    file = "FILE" if name == "check" else "--input_jsonl FILE"
    lines = [f"usage: {PROG} {name} {file} [--config FILE] [--flag VALUE ...]", ""]
    lines += [page.summary, *wrap(page.details, _width()), "", examples(name), ""]
    for flag in flags_of_page(name):
        default = defaults.get(flag.setting or flag.name)
        if flag.name == "loss_function":
            default = default.class_path.rpartition(".")[2]
        text = flag.help
        if default not in (None, False):
            text += f" (default: {default})"
        lines.append(_entry(f"--{flag.name}", text))
    lines += [
        "",
        f"  {PROG} {name} --help_all       every setting: the model's, the data's, Lightning's",
        f"  {PROG} {name} --print_config   the same as YAML, to edit and pass to --config",
    ]
    return "\n".join(lines)


def overview() -> str:
    """The help without a subcommand: what the program does, and its subcommands."""
    lines = [DESCRIPTION, "", "subcommands:"]
    lines += [_entry(name, page.summary) for name, page in PAGES.items()]
    lines += [
        "",
        "examples:",
        f"  {PROG} fit {PAGES['fit'].examples[0]}",
        f"  {PROG} test {PAGES['test'].examples[1]}",
        "",
        f"{PROG} SUBCOMMAND --help says more about one of them.",
    ]
    return "\n".join(lines)


def examples(name: str) -> str:
    """Command lines of a subcommand that one may type."""
    return "\n".join(["examples:", *(f"  {PROG} {name} {line}" for line in PAGES[name].examples)])


def _entry(name: str, text: str) -> str:
    lines = wrap(text, _width() - 21, break_on_hyphens=False)  # so that a value can be copied
    return f"  {name:18} " + f"\n{'':21}".join(lines)


def _width() -> int:
    return max(60, min(100, get_terminal_size((100, 24)).columns))
