"""Exceptions that the command line prints as one line, without a traceback; and a range check."""

from __future__ import annotations

import math
import signal


class EmbedftError(Exception):
    r"""Ends a command with a message for the user and an exit status.

    Args:
        lines: The lines of the message. Line ends inside one are printed as ``\n``: they come
            from a file or a server.
    """

    exit_status = 1

    def __init__(self, *lines: str) -> None:
        super().__init__(*lines)
        self.lines = lines

    def __str__(self) -> str:
        return "\n".join(self.lines)


class InputError(EmbedftError):
    """Something the user gave is wrong.

    The message is one or more complete lines. They name the place (file, line number, field), say
    what was wrong, and what to do.
    """

    exit_status = 2


class RunFailedError(EmbedftError):
    """A run can't continue: a number is not finite, or memory or disk space is missing."""


class StoppedError(EmbedftError):
    """A signal stopped a run after it was saved.

    Args:
        signum: The signal.
        message: What to do next.
    """

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}; {message}")
        self.exit_status = 128 + signum


def check_at_least(least: int, **settings: float | None) -> None:
    """Refuses settings below a bound, and infinite ones; None is a setting that is not given.

    Raises:
        InputError: Names the first such setting, its value and the bound.
    """
    for name, value in settings.items():
        if value is not None and not least <= value < math.inf:
            raise InputError(f"{name}: is {value}, must be at least {least}")
