"""The exceptions that the command line prints as one clear line, without a traceback."""

from __future__ import annotations

import signal


class EmbedftError(Exception):
    """Ends a command with a message for the user, and this exit status."""

    exit_status = 1


class InputError(EmbedftError):
    """Something the user gave is wrong.

    The message is one or more complete lines that say where (file, line number, field), what was
    wrong and what to do.
    """

    exit_status = 2


class RunFailedError(EmbedftError):
    """A run can't go on: numbers that are not finite, no memory, no space."""


class StoppedError(EmbedftError):
    """A signal stopped a run, after it was saved.

    Args:
        signum: The signal.
        message: What to do next.
    """

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}; {message}")
        self.exit_status = 128 + signum
