"""The log of a command: on the console, and in a file once the run has a folder."""

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
from embedft.tools.text import printable

_log = logging.getLogger("embedft")

_LONGEST_WARNING = 2_000  # characters

RESULT = 25
"""Level of a command's results: above INFO, below WARNING, so that ``--quiet`` shows them."""
logging.addLevelName(RESULT, "RESULT")

lost_output: list[str] = []
"""Why output of this command could not be written, if so."""

# Lightning's warnings about things that are done on purpose.
_HIDDEN_WARNINGS = (
    "LightningCLI's args parameter",
    ".*does not have many workers.*",
    ".*your dataloader is not resumable.*",
    ".*is smaller than the logging interval.*",
    ".*exists and is not empty.*",
    ".*LeafSpec.*",
    ".*callbacks used to create the checkpoint need to be provided.*",  # not needed to evaluate
    ".*sync_dist=True.*",  # each rank has the metrics of all ranks
    ".*Couldn't infer the batch indices.*",  # a batch has the ids of its texts
)


def start_log(
    quiet: bool = False, *, warnings_only: bool = False, without_results: bool = False
) -> None:
    """Logs to the console, and keeps the records for :func:`log_to_file`.

    Args:
        quiet: Show only results, warnings and errors; the file still gets all records.
        warnings_only: Log only warnings and errors, to standard error, for a command whose standard
            output is its result.
        without_results: Show only warnings and errors, on standard error, for callers who get the
            results as objects; the file still gets all records.
    """
    lost_output.clear()
    quiet = quiet or without_results
    set_quiet(quiet)
    if quiet:
        disable_progress_bars()  # of downloads from the hub
    for name in ("lightning.fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)  # hides seed, hardware and tips
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    for message in _HIDDEN_WARNINGS:
        warnings.filterwarnings("ignore", message)
    level = logging.WARNING if warnings_only else logging.INFO
    _log.setLevel(logging.ERROR if rank_zero_only.rank else level)
    for handler in list(_log.handlers):  # from an earlier command in this process
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
    """Discards further output to a stream whose reader has ended, such as ``head``."""
    null_device = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null_device, stream.fileno())
    os.close(null_device)


class _Handler(logging.StreamHandler):  # type: ignore[type-arg]  # takes none in Python 3.10
    """A run does not end because its output can't be written or nobody reads it any more."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        """Discards what follows; any error but that of a broken pipe is said once."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        discard_output(self.stream)
        if not isinstance(error, BrokenPipeError):
            lost_output.append(error.strerror or str(error))


class _LogFile(logging.FileHandler):
    """The log of a run, which a full disk does not end."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        """Warns once, and discards what follows."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        if self.stream is not None:
            discard_output(self.stream)
        _log.warning("%s: can't be written (%s)", self.baseFilename, error.strerror or error)


class _Formatter(logging.Formatter):
    """Shows what can't be seen, such as an escape in a name, as Python writes it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        """A warning is one line; results may be tables."""
        if record.levelno >= logging.WARNING:
            record.message = printable(record.message, _LONGEST_WARNING)
        else:
            record.message = "\n".join(map(printable, record.message.split("\n")))
        return super().formatMessage(record)


class _Console(_Formatter):
    """Shows only the message, with a prefix if it is a warning."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return f"warning: {text}" if record.levelno == logging.WARNING else text


def log_to_file(path: Path) -> None:
    """Appends the records so far, and all later ones, to a file."""
    file = _LogFile(path, encoding="utf-8")
    file.setFormatter(_Formatter("%(asctime)s %(levelname)s %(message)s"))
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
