"""The subcommands that need no Trainer of the user's: export, generate, mine and search."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from jsonargparse import ArgumentParser, Namespace

from embedft.cli.arguments import complete_switches
from embedft.cli.export import export
from embedft.cli.help import PROG, PageFormatter, add_quiet, examples
from embedft.cli.help_pages import COMMAND_PAGES
from embedft.cli.mine import mine
from embedft.cli.search import BASE_OF_MODEL, MODEL_NAME, search
from embedft.generate.generate import generate

COMMANDS: dict[str, Callable[..., None]] = {
    "export": export,
    "generate": generate,
    "mine": mine,
    "search": search,
}


def command_parser(name: str) -> ArgumentParser:
    """The parser of one of :data:`COMMANDS`, from its function's signature and docstring."""
    function = COMMANDS[name]
    parser = ArgumentParser(
        prog=f"{PROG} {name}",
        usage=f"{PROG} {name} [--flag VALUE ...]",
        exit_on_error=False,
        description=f"{COMMAND_PAGES[name].summary}\n\n{examples(name)}",
        formatter_class=PageFormatter,
    )
    asks = "questions" in inspect.signature(function).parameters
    if asks:
        positional = parser.add_argument(
            "questions", nargs="*", help="Any number. Without one they are read from the terminal."
        )
        positional.required = False  # argparse takes it for required, in the help
    parser.add_function_arguments(function, skip={"questions"} if asks else set())
    add_quiet(parser.add_argument_group())
    return parser


def command_flags(name: str) -> dict[str, object]:
    """The flags of one of :data:`COMMANDS`, without ``--``, and their defaults."""
    defaults = vars(command_parser(name).get_defaults())
    return {flag: default for flag, default in defaults.items() if flag != "questions"}


def parse_command(name: str, args: list[str]) -> Namespace:
    """The settings of one of :data:`COMMANDS` from its command line."""
    switches = [flag for flag, default in command_flags(name).items() if default is False]
    args = complete_switches(args, switches)
    if name == "search":
        args = complete_switches(args, ["compare"], BASE_OF_MODEL, MODEL_NAME)
    return command_parser(name).parse_args(args)


def run_command(name: str, args: list[str]) -> None:
    """Runs one of :data:`COMMANDS`."""
    args = ["--help" if arg == "--help_all" else arg for arg in args]  # it lists all flags
    COMMANDS[name](**parse_command(name, args).as_dict())
