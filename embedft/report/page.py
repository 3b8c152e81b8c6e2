"""A self-contained HTML page of text, tables and inline SVG figures; no script, no network.

Shape suffixes: P panels of a figure, E left, bottom, right and top edge.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from embedft.tools.files import replacing_file
from embedft.tools.text import plain_table


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
    """Rows of cells under a head; numbers come already formatted."""

    head: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Image:
    """A figure; its caption says in words what it shows, also for screen readers."""

    svg: Markup
    caption: str


Block = HtmlText | HtmlTable | Image


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and the blocks under it."""

    title: str
    blocks: list[Block] = field(default_factory=list)

    def as_text(self) -> str:
        """Title, texts and tables for a terminal; figures are left out."""
        parts = [f"\n{self.title.upper()}"]
        for block in self.blocks:
            if isinstance(block, HtmlTable):
                rows = [[str(cell) for cell in row] for row in block.rows]
                parts.append(f"\n{plain_table(block.head, rows)}")
            elif isinstance(block, HtmlText):
                parts.append(block.text)
        return "\n".join(parts)


def image(figure: Figure, caption: str) -> Image:
    """A matplotlib figure as inline SVG, the same bytes for the same figure.

    The background is transparent, and black parts take the page's text colour, so that the figure
    is readable on light and on dark. Each panel is an SVG of its own: a narrow page shows them one
    below the other.

    Args:
        figure: Made without pyplot, which would keep it in memory.
        caption: What it shows.
    """
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
        if (legend := axes.get_legend()) is not None:
            legend.set_frame_on(False)
    panels = [axes for axes in figure.axes if axes.get_visible()]
    crops = _crops(figure, panels) if len(panels) > 1 else [None]
    parts = []
    for number, (shown, crop) in enumerate(zip(panels, crops, strict=True)):
        for axes in panels:
            axes.set_visible(axes is shown)
        stream = io.StringIO()
        # Text stays text (small, searchable); ids of parts depend on neither chance nor time.
        with rc_context({"svg.fonttype": "none", "svg.hashsalt": f"{caption} {number}"}):
            figure.savefig(stream, format="svg", metadata={"Date": None}, bbox_inches=crop)
        text = stream.getvalue().replace("#000000", "currentColor")
        parts.append(text[text.index("<svg") :])  # without the XML declaration
    return Image(Markup("".join(parts)), caption)


def _crops(figure: Figure, panels: Sequence[Axes]) -> list[Bbox]:
    """A frame in inches around each panel and its texts, with the same margins for all panels."""
    frames_PE = np.array([axes.get_window_extent().extents for axes in panels])
    outer_PE = np.array([(axes.get_tightbbox() or axes.bbox).extents for axes in panels])
    margins_PE = outer_PE - frames_PE
    margin_E = np.concatenate([margins_PE[:, :2].min(axis=0), margins_PE[:, 2:].max(axis=0)])
    crops_PE = (frames_PE + margin_E) / figure.dpi
    return [Bbox.from_extents(*crop_E).padded(0.05) for crop_E in crops_PE.tolist()]


def render_page(title: str, sections: Sequence[Section]) -> str:
    """The page as HTML; every text in it is escaped."""
    environment = Environment(
        loader=PackageLoader("embedft.report", "."), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("page.html").render(title=title, sections=sections)


def write_page(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Writes a page as one HTML file; sections without blocks are left out."""
    html = render_page(title, [section for section in sections if section.blocks])
    with replacing_file(path) as temporary:
        temporary.write_text(html, encoding="utf-8")
