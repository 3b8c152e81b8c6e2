"""Progress bars of long steps, shown only on a terminal or in a notebook."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, TextIO

from tqdm import tqdm

_quiet = False


def set_quiet(quiet: bool) -> None:
    """Hides the bars of all steps that begin from now on, for ``--quiet``; False shows them."""
    global _quiet
    _quiet = quiet


def shows_bars(stream: TextIO | None = None) -> bool:
    """Whether a bar on a stream would be seen; the default is standard output."""
    stream = stream or sys.stdout
    return not _quiet and (stream.isatty() or "ipykernel" in sys.modules)


def progress(over: Iterable[Any] | None = None, **settings: Any) -> tqdm[Any]:
    """A bar on standard error, removed when the step ends.

    Args:
        over: What to iterate over; None if the caller calls :meth:`tqdm.update`.
        settings: Settings of tqdm: ``total``, ``desc``, ``unit``, ...
    """
    hidden = not shows_bars(sys.stderr)
    return tqdm(over, disable=hidden, leave=False, dynamic_ncols=True, **settings)
