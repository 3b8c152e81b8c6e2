"""The figures of a report, in colours that are readable on light and on dark.

Shape suffixes: S sampled questions, T two axes of a map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from embedft.evaluation.significance import Interval

BASE_COLOUR, TUNED_COLOUR, BETTER, WORSE = "#8a94a3", "#2b86d9", "#2a9d5b", "#d95f3b"
CURVES = ("#2b86d9", "#e08a3c", "#2a9d5b", "#9467bd")

Points = Sequence[tuple[float, float]]
"""(step, value), ascending by step."""

MAX_POINTS = 400
"""Points drawn of a curve: more could not be told apart, and would make the page large."""

LEFT, RIGHT, TOP, BOTTOM = 0.85, 0.15, 0.35, 0.65
COLUMN_GAP, ROW_GAP = 0.9, 0.95
"""Inches around and between axes; matplotlib's automatic layout would be the slowest step."""


def make_axes(
    width: float, height: float, columns: int, rows: int = 1
) -> tuple[Figure, list[Axes]]:
    """A figure of this width and height in inches, and its axes row by row."""
    figure = Figure(figsize=(width, height))
    axes_width = (width - LEFT - RIGHT - COLUMN_GAP * (columns - 1)) / columns
    axes_height = (height - TOP - BOTTOM - ROW_GAP * (rows - 1)) / rows
    figure.subplots_adjust(
        LEFT / width,
        BOTTOM / height,
        1 - RIGHT / width,
        1 - TOP / height,
        COLUMN_GAP / axes_width,
        ROW_GAP / axes_height,
    )
    all_axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in all_axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=9)
        axes.set_axisbelow(True)
    return figure, all_axes


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=10, fontweight="bold")


def _legend(axes: Axes) -> None:
    """Adds a legend on the line of the title, where it hides no part of the chart."""
    axes.legend(
        fontsize=8,
        loc="lower right",
        bbox_to_anchor=(1, 0.99),
        ncols=len(axes.get_legend_handles_labels()[1]),
        handlelength=1,
        columnspacing=0.8,
    )


def bars(
    metrics: Sequence[str], means: Mapping[str, Sequence[Interval]], gains: Sequence[Interval]
) -> Figure:
    """A bar per metric and model with its 95% interval, and the differences beside it, if any.

    Args:
        metrics: Names of the metrics.
        means: For each model, by name, the mean of each metric.
        gains: The difference of each metric; empty if there is only one model.
    """
    figure, axes = make_axes(10, 3.6, 2 if gains else 1)
    positions = np.arange(len(metrics))
    width = 0.8 / len(means)
    for index, (name, values) in enumerate(means.items()):
        axes[0].bar(
            positions + (index - (len(means) - 1) / 2) * width,
            [value.mean for value in values],
            width * 0.92,
            yerr=_whiskers(values),
            color=(BASE_COLOUR, TUNED_COLOUR)[index] if len(means) > 1 else TUNED_COLOUR,
            error_kw={"elinewidth": 1, "capsize": 2.5},
            label=name,
        )
    axes[0].set_xticks(positions, metrics, rotation=20 if gains else 0)
    axes[0].set_ylim(0, 1)
    axes[0].grid(axis="y", alpha=0.25)
    _title(axes[0], "held-out questions")
    _legend(axes[0])
    if gains:
        _draw_gains(axes[1], metrics, gains)
    return figure


def _draw_gains(axes: Axes, metrics: Sequence[str], gains: Sequence[Interval]) -> None:
    for row, gain in enumerate(gains):
        colour = BETTER if gain.low > 0 else WORSE if gain.high < 0 else BASE_COLOUR
        axes.plot([gain.low, gain.high], [row, row], color=colour, linewidth=3, alpha=0.6)
        axes.plot(gain.mean, row, "o", color=colour, markersize=7)
    axes.axvline(0, color="black", linewidth=1)
    axes.set_yticks(np.arange(len(metrics)), metrics)
    axes.set_ylim(len(metrics) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.25)
    _title(axes, "tuned - base, right of 0 is better")


def _whiskers(values: Sequence[Interval]) -> NDArray[np.float64]:
    """(2, metrics) distances of both bounds from the mean."""
    distances = [[value.mean - value.low, value.high - value.mean] for value in values]
    whiskers: NDArray[np.float64] = np.maximum(np.array(distances, dtype=np.float64).T, 0.0)
    return whiskers


def curves(panels: Mapping[str, Mapping[str, Points]], best_step: float | None) -> Figure:
    """Panels of lines over the steps of the run, two panels in a row.

    Args:
        panels: Panel title, then line name, then points.
        best_step: Step of the best weights, marked by a vertical line; None for no line.
    """
    rows = (len(panels) + 1) // 2
    figure, all_axes = make_axes(10, 2.8 * rows, 2, rows)
    for axes in all_axes[len(panels) :]:
        axes.set_visible(False)
    for axes, (title, lines) in zip(all_axes, panels.items(), strict=False):
        for colour, (name, points) in zip(CURVES, lines.items(), strict=False):
            thinned = points[:: len(points) // MAX_POINTS + 1]
            steps, values = zip(*thinned, strict=True)
            marker = "o" if len(points) <= 30 else None
            axes.plot(steps, values, color=colour, label=name, marker=marker, markersize=3.5)
        if best_step is not None:
            axes.axvline(best_step, color="black", linewidth=1, linestyle=":")
        axes.sharex(all_axes[0])
        axes.margins(y=0.12)
        axes.grid(alpha=0.25)
        axes.set_xlabel("step", fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_formatter("{x:g}")
        if len(lines) > 1:
            _legend(axes)
        _title(axes, title)
    return figure


def rank_table(counts: NDArray[np.int64], buckets: Sequence[str]) -> Figure:
    """Questions by rank before (rows) and after (columns), and the ranks of each model beside it.

    Args:
        counts: (buckets, buckets) number of questions.
        buckets: Names of the ranges of ranks, best first.
    """
    figure, (table, totals) = make_axes(10, 3.4, 2)
    share = counts / max(1, counts.max())
    for row, column in np.ndindex(counts.shape):
        colour = BETTER if column < row else WORSE if column > row else BASE_COLOUR
        strength = 0.1 + 0.75 * share[row, column] if counts[row, column] else 0.03
        corner = column - 0.5, row - 0.5
        table.add_patch(Rectangle(corner, 1, 1, facecolor=colour, alpha=strength))
        if counts[row, column]:
            table.text(column, row, str(counts[row, column]), ha="center", va="center")
    positions = np.arange(len(buckets))
    table.set_xlim(-0.5, len(buckets) - 0.5)
    table.set_ylim(len(buckets) - 0.5, -0.5)
    table.set_xticks(positions, buckets)
    table.set_yticks(positions, buckets)
    table.spines[:].set_visible(False)
    table.tick_params(length=0)
    table.set_xlabel("rank by the tuned model", fontsize=9)
    table.set_ylabel("rank by the base model", fontsize=9)
    _title(table, "below the diagonal: better rank after tuning")
    for index, (name, sums) in enumerate((("base", counts.sum(1)), ("tuned", counts.sum(0)))):
        drawn = totals.bar(
            positions + (index - 0.5) * 0.4,
            sums,
            0.37,
            color=(BASE_COLOUR, TUNED_COLOUR)[index],
            label=name,
        )
        totals.bar_label(drawn, fontsize=8)
    totals.set_xticks(positions, buckets)
    totals.margins(y=0.18)
    totals.set_xlabel("rank of the best relevant answer", fontsize=9)
    _legend(totals)
    _title(totals, "questions by rank")
    return figure


def similarities(models: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]) -> Figure:
    """Histograms of cosine similarities, a panel per model.

    Args:
        models: By name, the similarities of relevant pairs and of other pairs.
    """
    figure, all_axes = make_axes(10, 2.9, len(models))
    values = np.concatenate([values for pair in models.values() for values in pair])
    bins = np.linspace(values.min() - 1e-6, values.max() + 1e-6, 33).tolist()
    for axes, (name, (relevant, other)) in zip(all_axes, models.items(), strict=True):
        for pairs, colour, label in (
            (other, BASE_COLOUR, "other pairs"),
            (relevant, BETTER, "relevant pairs"),
        ):
            if len(pairs):
                weights = np.full(len(pairs), 100 / len(pairs))
                axes.hist(pairs, bins, weights=weights, color=colour, alpha=0.55, label=label)
                axes.hist(
                    pairs, bins, weights=weights, color=colour, histtype="step", linewidth=1.3
                )
        axes.set_xlabel("cosine similarity", fontsize=9)
        axes.set_ylabel("% of the pairs", fontsize=9)
        _legend(axes)
        axes.sharey(all_axes[0])
        _title(axes, name)
    return figure


def pair_map(
    models: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]],
    change_S: NDArray[np.int64],
) -> Figure:
    """Questions joined to their answers in two dimensions, a panel per model, on the same axes.

    Args:
        models: By name, the (S, T) coordinates of questions and of answers.
        change_S: Sign of the change of each question's rank: 1 improved, -1 worsened, 0 unchanged.
    """
    figure, all_axes = make_axes(10, 4.9 if len(models) > 1 else 6, len(models))
    kinds = {1: (BETTER, "improved"), 0: (BASE_COLOUR, "unchanged"), -1: (WORSE, "worsened")}
    for axes, (name, (questions_ST, answers_ST)) in zip(all_axes, models.items(), strict=True):
        for sign, (colour, label) in kinds.items():
            chosen = change_S == sign
            if not chosen.any():
                continue
            questions, answers = questions_ST[chosen], answers_ST[chosen]
            x, y = (np.stack([questions[:, axis], answers[:, axis]]) for axis in (0, 1))
            axes.plot(x, y, color=colour, linewidth=0.8, alpha=0.55, zorder=1)
            axes.plot(*questions.T, "o", color=colour, markersize=4.5, label=f"question, {label}")
            axes.plot(*answers.T, "s", color=colour, markersize=4.5, markerfacecolor="none")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(True)
        axes.spines[:].set_alpha(0.3)
        axes.sharex(all_axes[0])
        axes.sharey(all_axes[0])
        axes.margins(0.06)
        _title(axes, name)
        if len(models) > 1:
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=3, fontsize=8)
    return figure
