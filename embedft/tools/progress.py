"""Progress bars of long steps: on a terminal or in a notebook, and nowhere else."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, TextIO

from tqdm import tqdm

_quiet = False


def set_quiet(quiet: bool) -> None:
    """Whether steps that begin from now on show none even there, as ``--quiet`` asks."""
    global _quiet
    _quiet = quiet


def shows_bars(stream: TextIO | None = None) -> bool:
    """Whether anybody would see a bar on a stream, by default standard output."""
    stream = stream or sys.stdout
    return not _quiet and (stream.isatty() or "ipykernel" in sys.modules)


def progress(over: Iterable[Any] | None = None, **settings: Any) -> tqdm[Any]:
    """A bar on standard error, which is gone when the step is done.

    Args:
        over: What is gone through; None where :meth:`tqdm.update` is called by hand.
        settings: tqdm's: ``total``, ``desc``, ``unit``, ...
    """
    hidden = not shows_bars(sys.stderr)
    return tqdm(over, disable=hidden, leave=False, dynamic_ncols=True, **settings)
