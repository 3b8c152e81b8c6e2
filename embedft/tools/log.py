"""What a run says: to standard output, and to a file as soon as there may be one."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import TextIO

from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]  # public
from lightning.pytorch.utilities import rank_zero_only
from transformers.utils import logging as transformers_logging

from embedft.tools.progress import set_quiet

_log = logging.getLogger("embedft")

RESULT = 25
"""Level of what a command is run for: above INFO, below WARNING, shown with ``--quiet``."""
logging.addLevelName(RESULT, "RESULT")

# Lightning's notices about things that are decided here on purpose.
_NOT_SHOWN = (
    "LightningCLI's args parameter",
    ".*does not have many workers.*",
    ".*your dataloader is not resumable.*",
    ".*is smaller than the logging interval.*",
    ".*exists and is not empty.*",
    ".*LeafSpec.*",
    ".*callbacks used to create the checkpoint need to be provided.*",  # not to measure
    ".*sync_dist=True.*",  # each rank has the figures of all
    ".*Couldn't infer the batch indices.*",  # a batch names its texts itself
)


def start_log(
    quiet: bool = False, *, warnings_only: bool = False, without_results: bool = False
) -> None:
    """Reports to standard output; the first lines are also held for :func:`log_to_file`.

    Args:
        quiet: Show results, warnings and errors alone; the file still gets all.
        warnings_only: For a command whose result is what it prints: reports to standard error.
        without_results: Show warnings and errors alone, on standard error, as for a caller who gets
            the results as objects; the file still gets all.
    """
    quiet = quiet or without_results
    set_quiet(quiet)
    if quiet:
        disable_progress_bars()  # of downloads
    for name in ("lightning.fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)  # not seed, hardware and tips
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    for message in _NOT_SHOWN:
        warnings.filterwarnings("ignore", message)
    usual = logging.WARNING if warnings_only else logging.INFO
    _log.setLevel(logging.ERROR if rank_zero_only.rank else usual)
    for handler in list(_log.handlers):  # of an earlier run in this process
        _log.removeHandler(handler)
        handler.close()
    to_stderr = warnings_only or without_results
    console = _Handler(sys.stderr if to_stderr else sys.stdout)
    console.setFormatter(_Console())
    shown = RESULT if quiet else logging.INFO
    console.setLevel(logging.WARNING if without_results else shown)
    _log.addHandler(console)
    _log.addHandler(MemoryHandler(10_000, flushLevel=logging.CRITICAL + 1, flushOnClose=False))


def discard_output(stream: TextIO) -> None:
    """What is still to be written to a stream whose reader is gone, as ``head``, goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


class _Handler(logging.StreamHandler):  # type: ignore[type-arg]  # takes none in Python 3.10
    """Goes on without a word where nobody reads any more: a run need not end for it."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # its name in logging
        """Says what is wrong, unless it is that."""
        if isinstance(sys.exc_info()[1], BrokenPipeError):
            discard_output(self.stream)
        else:
            super().handleError(record)


class _Console(logging.Formatter):
    """The message alone; a warning says that it is one."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return f"warning: {text}" if record.levelno == logging.WARNING else text


def log_to_file(path: Path) -> None:
    """Appends what was said so far, and what will be, to a file."""
    file = logging.FileHandler(path, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for handler in list(_log.handlers):
        if isinstance(handler, MemoryHandler):
            handler.setTarget(file)
            handler.flush()
            _log.removeHandler(handler)
    _log.addHandler(file)


@contextmanager
def only_errors(*names: str) -> Iterator[None]:
    """Hides messages below ERROR of these loggers."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
