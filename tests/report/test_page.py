from __future__ import annotations

from matplotlib.figure import Figure
from reader import Reader

from embedft.report.page import HtmlTable, HtmlText, Image, Section, image, render_page

HOSTILE = "<script>alert('ü')</script> & \"quotes\""


def chart() -> Figure:
    figure = Figure(figsize=(3, 2))
    figure.subplots().plot([1, 2], [3, 4], label=HOSTILE)
    return figure


def test_page_holds_what_it_is_given_and_nothing_that_runs() -> None:
    blocks: list[HtmlText | HtmlTable | Image] = [
        HtmlText(HOSTILE, "warning"),
        HtmlTable([HOSTILE], [[HOSTILE]]),
        image(chart(), HOSTILE),
    ]
    html = render_page(HOSTILE, [Section(HOSTILE, blocks)])
    reader = Reader()
    reader.feed(html)
    assert reader.text.count(HOSTILE) >= 6
    assert "script" not in reader.tags
    assert {"svg", "table", "figure"} <= set(reader.tags)
    assert 'src="http' not in html
    assert 'href="http' not in html


def test_same_figure_same_bytes() -> None:
    assert image(chart(), "a") == image(chart(), "a")
