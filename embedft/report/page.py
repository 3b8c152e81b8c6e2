"""A self-contained HTML page: text, tables and figures as inline SVG; no script, no network."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class HtmlText:
    """A paragraph; ``kind`` is ``plain``, ``good``, ``warning``, ``code`` or ``strong``."""

    text: str
    kind: str = "plain"


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table with a note under it; ``kind`` is ``plain`` or ``good``."""

    text: str
    note: str = ""
    kind: str = "plain"

    def __str__(self) -> str:
        return f"{self.text} ({self.note})" if self.note else self.text


@dataclass(frozen=True, slots=True)
class HtmlTable:
    """Rows of cells under a head; numbers are given as they shall be read."""

    head: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Image:
    """A figure; its caption says in words what it shows, for those who can't see it."""

    svg: Markup
    caption: str


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands under it, in order."""

    title: str
    blocks: list[HtmlText | HtmlTable | Image] = field(default_factory=list)


def image(figure: Figure, caption: str) -> Image:
    """A matplotlib figure as inline SVG, the same bytes for the same figure.

    It has no background, and what is black in it takes the page's colour: light on dark.

    Args:
        figure: Made without pyplot, which would keep it in memory.
        caption: What it shows.
    """
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
        if (legend := axes.get_legend()) is not None:
            legend.set_frame_on(False)
    stream = io.StringIO()
    # Letters stay letters (small, searchable), and ids of parts don't depend on chance or the time.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": caption}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue().replace("#000000", "currentColor")
    return Image(Markup(text[text.index("<svg") :]), caption)  # without the XML head


def render(title: str, sections: Sequence[Section]) -> str:
    """The page as HTML; every text in it is escaped."""
    environment = Environment(
        loader=PackageLoader("embedft.report", "."), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("page.html").render(title=title, sections=sections)
