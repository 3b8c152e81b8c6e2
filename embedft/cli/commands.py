"""The subcommands that need no trainer: export, mine and search."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from jsonargparse import ArgumentParser

from embedft.cli.export import export
from embedft.cli.help import (
    PROG,
    ScreenFormatter,
    add_quiet,
    examples,
)
from embedft.cli.mine import mine
from embedft.cli.screens import SCREENS
from embedft.cli.search import search

# Subcommands that need no trainer of the user's, and what they do in words.
COMMANDS: dict[str, tuple[Callable[..., None], str]] = {
    "export": (
        export,
        "Write the sentence-transformers folder of a checkpoint, as ONNX too; put it on the hub.",
    ),
    "mine": (mine, "Find, for each question of a file, the wrong answers that a model ranks high."),
    "search": (search, "Print the answers of a file that a model finds for a question of yours."),
}


def summaries() -> list[tuple[str, str]]:
    """Each subcommand and what it does."""
    return [
        *((name, screen.summary) for name, screen in SCREENS.items()),
        *((name, summary) for name, (_, summary) in COMMANDS.items()),
    ]


def command_parser(name: str) -> ArgumentParser:
    """The parser of one of :data:`COMMANDS`, from its function's signature and docstring."""
    function, summary = COMMANDS[name]
    parser = ArgumentParser(
        prog=f"{PROG} {name}",
        usage=f"{PROG} {name} [--flag VALUE ...]",
        exit_on_error=False,
        description=f"{summary}\n\n{examples(name)}",
        formatter_class=ScreenFormatter,
    )
    asks = "questions" in inspect.signature(function).parameters
    if asks:
        positional = parser.add_argument(
            "questions", nargs="*", help="Any number; without one they are read from the terminal."
        )
        positional.required = False  # which argparse takes it for, in the help
    parser.add_function_arguments(function, skip={"questions"} if asks else set())
    add_quiet(parser.add_argument_group())
    return parser


def run_command(name: str, args: list[str]) -> None:
    """Runs one of :data:`COMMANDS`."""
    args = ["--help" if arg == "--help_all" else arg for arg in args]  # it is whole already
    COMMANDS[name][0](**command_parser(name).parse_args(args).as_dict())
