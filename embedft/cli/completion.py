"""``--print_completion``: a script with which a shell completes subcommands and flags."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any, NoReturn

from lightning.pytorch.cli import LightningArgumentParser

from embedft.cli.app import EmbedftCLI
from embedft.cli.commands import command_parser
from embedft.cli.flags import SHORT_FLAGS
from embedft.cli.help import Parser
from embedft.cli.help_pages import COMMAND_PAGES
from embedft.cli.trainer import CommandLineTrainer
from embedft.data.datamodule import EmbeddingDataModule
from embedft.errors import InputError
from embedft.training.module import EmbeddingModule

SHELLS = ("bash", "zsh", "tcsh")


def print_completion(shell: str) -> None:
    """Prints the completion script of the program ``embedft``.

    Args:
        shell: ``bash``, ``zsh`` or ``tcsh``, or jsonargparse's name for it, ``shtab-bash``.

    Raises:
        InputError: The shell is another one, or shtab is not installed.
    """
    shell = shell.removeprefix("shtab-")
    if shell not in SHELLS:
        raise InputError(f"--print_completion: is {shell}, must be one of {', '.join(SHELLS)}")
    if find_spec("shtab") is None:
        raise InputError("--print_completion: needs shtab: pip install 'embedft[completion]'")
    _CompletionCLI(
        EmbeddingModule,
        EmbeddingDataModule,
        trainer_class=CommandLineTrainer,
        load_from_checkpoint_support=False,
        auto_configure_optimizers=False,
        parser_class=_CompletionParser,
        parser_kwargs={"prog": "embedft"},
        args=[f"shtab-{shell}"],
    )


class _CompletionParser(Parser):
    def add_subcommands(self, *args: Any, **kwargs: Any) -> Any:
        """Also adds the subcommands that need no Trainer."""
        subcommands = super().add_subcommands(*args, **kwargs)
        for name, page in COMMAND_PAGES.items():
            subcommands.add_subcommand(name, command_parser(name), help=page.summary)
        return subcommands


class _CompletionCLI(EmbedftCLI):
    """The command line with its short flags; it prints its script and exits."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the short flags, which are otherwise expanded before the parser sees them."""
        super().add_arguments_to_parser(parser)
        for short, dotted in SHORT_FLAGS.items():
            parser.add_argument(f"--{short}", help=f"The same as --{dotted}.")
        # A loss may hold a loss: jsonargparse would list --model.loss.loss.loss... 660 deep, 58 MB.
        loss: Any = parser._option_string_actions["--model.loss"]
        loss.sub_add_kwargs["skip"] = {"loss"}

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> NoReturn:
        """Prints."""
        print(parser.get_completion_script(args[0]))
        sys.exit()
