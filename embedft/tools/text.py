"""Tables as plain text, for terminals and Markdown."""

from __future__ import annotations

import difflib
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


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``; did you mean NAME?``, or nothing where no known name is like it."""
    found = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {found[0]}?" if found else ""


def one_line(error: BaseException, most: int = 200) -> str:
    """The message of an exception on one line, cut to ``most`` characters; its class if empty."""
    return (" ".join(str(error).split()) or type(error).__name__)[:most]


def shorten(text: str, most: int) -> str:
    """The text, or its first characters and an ellipsis, ``most`` characters together."""
    return text if len(text) <= most else text[: most - 1] + "…"
