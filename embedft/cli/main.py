"""The command line: finds the subcommand, runs it, and ends errors in one line."""

from __future__ import annotations

import atexit
import inspect
import signal
import sys
from argparse import ArgumentError
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import distributed

from embedft._version import __version__
from embedft.cli.app import EmbedftCLI
from embedft.cli.arguments import expand_arguments
from embedft.cli.commands import COMMANDS, command_flags, run_command
from embedft.cli.completion import print_completion
from embedft.cli.flags import FLAGS
from embedft.cli.help import (
    PROG,
    HelpFormatter,
    Parser,
    overview,
    parser_settings,
)
from embedft.cli.help_pages import PAGES, TRAINER_PAGES
from embedft.cli.messages import friendly_error, other_name
from embedft.cli.trainer import TRAINER_DEFAULTS, CommandLineTrainer, SaveConfig
from embedft.data.datamodule import EmbeddingDataModule
from embedft.errors import EmbedftError, InputError, RunFailedError, StoppedError
from embedft.tools.device import out_of_memory
from embedft.tools.log import discard_output, lost_output, start_log
from embedft.tools.progress import set_quiet
from embedft.tools.text import error_line, one_line, printable
from embedft.training.module import EmbeddingModule

_LONGEST_LINE = 600
"""Characters of a line of a message: a file may hold a key of a megabyte."""


def _flags_of(name: str) -> list[str]:
    """What may follow a subcommand's name, without ``--``."""
    if name in COMMANDS:
        return list(command_flags(name))
    sections = {"model": EmbeddingModule, "data": EmbeddingDataModule, "trainer": Trainer}
    settings = [
        f"{section}.{parameter}"
        for section, part in sections.items()
        for parameter in inspect.signature(part).parameters
    ]
    flags = [flag.name for flag in FLAGS if flag.name != "html" or name == "check"]
    return [*flags, *settings]


def run(arguments: list[str], *, without_results: bool = False) -> EmbedftCLI | None:
    """Runs a command line.

    Args:
        arguments: What follows ``python -m embedft``.
        without_results: Print only warnings and errors, on standard error.

    Returns:
        The object that ran ``fit``, ``validate``, ``test``, ``predict`` or ``check``; None for
        other commands.

    Raises:
        EmbedftError: The command failed; an :class:`InputError` if the input is wrong.
    """
    quiet = "--quiet" in arguments
    arguments = [arg for arg in arguments if arg != "--quiet"] or ["--help"]
    if arguments[0] == "help":
        arguments = [*arguments[1:2], "--help"]
    if arguments[0] == "--version":
        print(f"embedft {__version__}")
        return None
    name = arguments[0]
    try:
        start_log(quiet, warnings_only=name == "search", without_results=without_results)
        with _one_line_errors(name):
            return _run_command(name, arguments)
    finally:
        set_quiet(False)


def _run_command(name: str, arguments: list[str]) -> EmbedftCLI | None:
    flag, _, value = name.partition("=")
    if flag == "--print_completion":
        print_completion(value or "".join(arguments[1:]))
        return None
    if name in COMMANDS:
        run_command(name, arguments[1:])
        return None
    if not name.startswith("-") and name not in TRAINER_PAGES:
        raise InputError(
            f"{name}: no such subcommand{other_name(name, PAGES)}; there are {', '.join(PAGES)}"
        )
    return _run_trainer(name, expand_arguments(arguments))


def _run_trainer(name: str, arguments: list[str]) -> EmbedftCLI:
    needed = [name] if name in TRAINER_PAGES else list(TRAINER_PAGES)
    return EmbedftCLI(
        EmbeddingModule,
        EmbeddingDataModule,
        save_config_callback=SaveConfig,
        save_config_kwargs={"save_to_log_dir": False},
        trainer_class=CommandLineTrainer,
        trainer_defaults=TRAINER_DEFAULTS,
        seed_everything_default=42,
        load_from_checkpoint_support=False,
        auto_configure_optimizers=False,
        parser_class=Parser,
        parser_kwargs={
            "prog": PROG,
            "description": overview(),
            "formatter_class": HelpFormatter,
            "exit_on_error": False,
            "version": __version__,
            **{command: parser_settings(command) for command in needed},
        },
        args=arguments,
    )


@contextmanager
def _one_line_errors(name: str) -> Iterator[None]:
    """Turns the errors of a subcommand into an :class:`EmbedftError` that says what to do."""
    try:
        yield
    except ArgumentError as error:
        raise InputError(friendly_error(str(error), name, _flags_of(name))) from None
    except MisconfigurationException as error:
        raise InputError(one_line(str(error))) from error
    except SIGTERMException:
        raise StoppedError(signal.SIGTERM, "before there was anything to save") from None
    except SystemExit as ended:
        if isinstance(ended.__context__, KeyboardInterrupt):  # Lightning makes it status 1
            raise KeyboardInterrupt from None
        raise
    except BrokenPipeError:  # main knows what it means
        raise
    except OSError as error:
        raise RunFailedError(error_line(error)) from error
    except (MemoryError, RuntimeError) as error:
        if "gloo" in str(error).lower() or "Connection closed by peer" in str(error):
            raise RunFailedError(
                "another process of this run ended, so this one can't go on; resume with "
                "--ckpt_path last if it had saved a checkpoint"
            ) from error
        if not out_of_memory(error):
            raise
        raise RunFailedError(
            "out of memory. To train the same batch in less memory, use --model.chunk_size 32; or "
            "reduce --batch_size, --eval_batch_size or --max_seq_length"
        ) from error


def main(args: list[str] | None = None) -> None:
    """Runs a command line; wrong input ends with one clear line and exit status 2."""
    try:
        try:
            _run_to_its_end(sys.argv[1:] if args is None else list(args))
        finally:
            sys.stdout.flush()
        if lost_output:
            _fail([f"standard output can't be written: {lost_output[0]}"], 1)
    except BrokenPipeError:  # what reads it, such as head, has enough
        discard_output(sys.stdout)
        sys.exit(128 + 13)  # as a program that SIGPIPE ends
    except OSError as error:
        discard_output(sys.stdout)
        _fail([f"standard output can't be written: {error.strerror or error}"], 1)


def _run_to_its_end(args: list[str]) -> None:
    try:
        run(args)
        _wait_for_all_ranks()
    except StoppedError as error:
        # A rank that ends with an error makes Lightning's launcher kill the others as they save.
        if rank_zero_only.rank:
            sys.exit(0)
        print(f"embedft: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    except EmbedftError as error:
        _fail(error.lines, error.exit_status)
    except KeyboardInterrupt:  # nothing was there to save
        if not rank_zero_only.rank:
            print("interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


def _wait_for_all_ranks() -> None:
    """Lets the processes of a run end together, each without threads at work.

    One that ends earlier is aborted with its threads, and torchrun then stops the first rank, which
    may still be writing the models.
    """
    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
        atexit.unregister(_leave_group)
        atexit.register(_leave_group)


def _leave_group() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


def _fail(lines: Iterable[str], status: int) -> NoReturn:
    message = "\n".join(printable(line, _LONGEST_LINE) for line in lines)
    print(f"embedft: error: {message}", file=sys.stderr)
    sys.exit(status)
