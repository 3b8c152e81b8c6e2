"""The one exception that means: the user can mend this, and here is how."""

from __future__ import annotations


class InputError(Exception):
    """Something the user gave is wrong.

    The message is one or more complete lines that say where (file, line number, field), what was
    wrong and what to do. The command line prints it without a traceback and exits with status 2.
    """
