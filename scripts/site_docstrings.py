"""Docstrings as Markdown: their roles (``:class:`~embedft.fit```) and formulas (``.. math::``)."""

from __future__ import annotations

import re
from textwrap import dedent
from typing import Any

from griffe import Extension, Object

ROLE = re.compile(r":\w+:`~?(?:\w+\.)*(\w+)`")
INLINE = re.compile(r":math:`([^`]*)`")
BLOCK = re.compile(r"^\.\. math::\n((?:    .*\n|\n(?=    ))+)", re.MULTILINE)


class Markdown(Extension):
    """Rewrites each docstring when it is read."""

    def on_instance(self, *, obj: Object, **_: Any) -> None:
        """Rewrites the docstring of a module, class, function or attribute."""
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)


def markdown(docstring: str) -> str:
    """A docstring with Markdown instead of reStructuredText."""
    docstring = INLINE.sub(lambda found: f"${found[1]}$", docstring)
    docstring = BLOCK.sub(lambda found: f"$$\n{dedent(found[1]).strip()}\n$$\n", docstring + "\n")
    return ROLE.sub(r"`\1`", docstring).replace("``", "`")
