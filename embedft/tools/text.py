"""Text for terminals and messages: tables, one-line errors, shortened texts, suggestions."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence


def plain_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown with aligned columns."""
    cells = [head, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def one_line(text: str, limit: int | None = None) -> str:
    """A text on one line, cut to ``limit`` characters; a text that was cut ends with ``…``."""
    line = " ".join(text.split())
    return line if limit is None or len(line) <= limit else line[: limit - 1] + "…"


def printable(text: str, limit: int | None = None) -> str:
    r"""A text that can be printed on a terminal as one line, whoever wrote it.

    Args:
        text: Any text. Line ends, escapes and other characters that can't be seen are shown as
            Python writes them, such as ``\x1b``.
        limit: Characters at most; of a longer text the middle is left out.
    """
    if limit is not None and len(text) > limit:
        begin = limit * 2 // 3
        text = f"{text[:begin]} … {text[len(text) - (limit - begin - 3) :]}"
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def without_secrets(text: str, *secrets: str | None) -> str:
    """A text with ``***`` for each secret, and for the user and password of an address."""
    for secret in filter(None, secrets):
        for form in filter(None, (secret, secret.strip())):
            text = text.replace(form, "***")
    return re.sub(r"(?<=://)[^/@\s]+@", "***@", text)


def file_label(path: str) -> str:
    """The name of a file or folder without the way to it, to publish: no markup, no line ends."""
    name = path.rstrip("/").rsplit("/", 1)[-1]
    return "".join(sign if sign.isalnum() or sign in " ._-+,()" else "_" for sign in name)


def error_line(error: BaseException, limit: int = 200, *, first_line: bool = False) -> str:
    """The message of an error on one line, or the name of its class if it has no message.

    Args:
        error: Any exception.
        limit: Characters at most.
        first_line: Drop all lines but the first: the others are a stack trace or advice for
            programmers.
    """
    message = str(error).strip() or type(error).__name__
    return one_line(message.splitlines()[0] if first_line else message, limit)


def did_you_mean(name: str, known: Iterable[str], prefix: str = "", cutoff: float = 0.6) -> str:
    """``; did you mean NAME?``, or nothing if no other known name is similar.

    Args:
        name: What the user typed; it is never suggested.
        known: What could have been meant. Case does not matter.
        prefix: Put before the suggestion, such as ``--``.
        cutoff: Similarity that a suggestion needs, from 0 (any) to 1 (equal).
    """
    others = {other.lower(): other for other in known if other != name}
    close = difflib.get_close_matches(name.lower(), others, n=1, cutoff=cutoff)
    return f"; did you mean {prefix}{others[close[0]]}?" if close else ""
