from __future__ import annotations

import numpy as np
import pytest

from embedft.evaluation.significance import Interval
from embedft.report import charts


@pytest.mark.parametrize("rows", [1, 2])
def test_axes_lie_inside_the_figure_and_do_not_overlap(rows: int) -> None:
    figure, axes = charts.make_axes(10, 3 * rows, 2, rows)
    boxes = [one.get_position() for one in axes]
    assert len(boxes) == 2 * rows
    assert all(0 < box.x0 < box.x1 < 1 and 0 < box.y0 < box.y1 < 1 for box in boxes)
    gap = (boxes[1].x0 - boxes[0].x1) * figure.get_figwidth()
    assert gap == pytest.approx(charts.COLUMN_GAP)


def test_bars_have_the_means_and_gains_the_colour_of_their_interval() -> None:
    means = {
        "base model": [Interval(0.5, 0.4, 0.6)] * 3,
        "tuned model": [Interval(0.6, 0.5, 0.7)] * 3,
    }
    gains = [Interval(0.1, 0.05, 0.15), Interval(-0.1, -0.2, -0.05), Interval(0.1, -0.1, 0.3)]
    figure = charts.bars(["a", "b", "c"], means, gains)
    left, right = figure.axes
    assert [bar.get_height() for bar in left.patches] == [0.5] * 3 + [0.6] * 3  # type: ignore[attr-defined]
    points = [line for line in right.lines if line.get_marker() == "o"]
    assert [line.get_color() for line in points] == [
        charts.BETTER,
        charts.WORSE,
        charts.BASE_COLOUR,
    ]
    assert len(charts.bars(["a"], {"base model": means["base model"][:1]}, []).axes) == 1


def test_long_curves_are_thinned() -> None:
    points = [(step, 1 / (step + 1)) for step in range(5000)]
    figure = charts.curves({"loss": {"training": points}}, best_step=17)
    curve, best = figure.axes[0].lines
    assert charts.MAX_POINTS / 2 < len(np.asarray(curve.get_xdata())) <= charts.MAX_POINTS
    assert np.asarray(best.get_xdata()).tolist() == [17, 17]
    assert len(charts.curves({"loss": {"training": points}}, None).axes[0].lines) == 1


def test_rank_table_shows_all_counts() -> None:
    counts = np.array([[3, 0], [2, 1]])
    table, totals = charts.rank_table(counts, ["1", "> 1"]).axes
    assert sorted(text.get_text() for text in table.texts) == ["1", "2", "3"]
    assert [bar.get_height() for bar in totals.patches] == [3, 3, 5, 1]  # type: ignore[attr-defined]


def test_histograms_are_in_per_cent() -> None:
    figure = charts.similarities({"base model": (np.array([0.9, 0.8]), np.array([0.1, 0.2, 0.3]))})
    other, relevant = figure.axes[0].patches[:32], figure.axes[0].patches[33:65]
    for bars in (other, relevant):
        assert sum(bar.get_height() for bar in bars) == pytest.approx(100)  # type: ignore[attr-defined]


def test_map_joins_questions_to_answers_in_the_colour_of_their_change() -> None:
    points = np.arange(6, dtype=np.float32).reshape(3, 2)
    figure = charts.pair_map({"base model": (points, points + 1)}, np.array([1, -1, 0]))
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert {line.get_label(): line.get_color() for line in dots} == {
        "question, improved": charts.BETTER,
        "question, worsened": charts.WORSE,
        "question, unchanged": charts.BASE_COLOUR,
    }
