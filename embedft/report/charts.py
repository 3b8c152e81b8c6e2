"""The figures of a fit's report, in colours that are readable on light and on dark.

Shape suffixes: N values, S sampled questions, T two axes of a map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from embedft.evaluation.bootstrap import Interval

BASE, TUNED, UP, DOWN = "#8a94a3", "#2b86d9", "#2a9d5b", "#d95f3b"
CURVES = ("#2b86d9", "#e08a3c", "#2a9d5b", "#9467bd")

Points = Sequence[tuple[float, float]]
"""(step, value), ascending by step."""

MAX_POINTS = 400
"""Points of a curve that are drawn: more can't be told apart, and would make a large page."""


LEFT, RIGHT, TOP, BOTTOM, BETWEEN, ROWS = 0.85, 0.15, 0.35, 0.65, 0.9, 0.95
"""Inches around and between axes, for their ticks and names: to find them takes longest of all."""


def axes_of(width: float, height: float, columns: int, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of so many inches and its axes."""
    figure = Figure(figsize=(width, height))
    across = (width - LEFT - RIGHT - BETWEEN * (columns - 1)) / columns
    up = (height - TOP - BOTTOM - ROWS * (rows - 1)) / rows
    figure.subplots_adjust(
        LEFT / width,
        BOTTOM / height,
        1 - RIGHT / width,
        1 - TOP / height,
        BETWEEN / across,
        ROWS / up,
    )
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.tick_params(labelsize=9)
        one.set_axisbelow(True)
    return figure, axes


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=10, fontweight="bold")


def _legend(axes: Axes) -> None:
    """On the title's line, where it hides nothing that is drawn."""
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
    """A bar a metric and model with its 95% interval; beside it the differences, if any.

    Args:
        metrics: Their names.
        means: By the name of the model, a mean of each metric.
        gains: The difference of each metric; empty where there is one model.
    """
    figure, axes = axes_of(10, 3.6, 2 if gains else 1)
    place = np.arange(len(metrics))
    width = 0.8 / len(means)
    for index, (name, values) in enumerate(means.items()):
        axes[0].bar(
            place + (index - (len(means) - 1) / 2) * width,
            [value.mean for value in values],
            width * 0.92,
            yerr=_whiskers(values),
            color=(BASE, TUNED)[index] if len(means) > 1 else TUNED,
            error_kw={"elinewidth": 1, "capsize": 2.5},
            label=name,
        )
    axes[0].set_xticks(place, metrics, rotation=20 if gains else 0)
    axes[0].set_ylim(0, 1)
    axes[0].grid(axis="y", alpha=0.25)
    _title(axes[0], "held-out questions")
    _legend(axes[0])
    if gains:
        for row, gain in enumerate(gains):
            colour = UP if gain.low > 0 else DOWN if gain.high < 0 else BASE
            axes[1].plot([gain.low, gain.high], [row, row], color=colour, linewidth=3, alpha=0.6)
            axes[1].plot(gain.mean, row, "o", color=colour, markersize=7)
        axes[1].axvline(0, color="black", linewidth=1)
        axes[1].set_yticks(place, metrics)
        axes[1].set_ylim(len(metrics) - 0.5, -0.5)
        axes[1].grid(axis="x", alpha=0.25)
        _title(axes[1], "tuned - base, right of 0 is better")
    return figure


def _whiskers(values: Sequence[Interval]) -> NDArray[np.float64]:
    sides = [[value.mean - value.low, value.high - value.mean] for value in values]
    whiskers: NDArray[np.float64] = np.maximum(np.array(sides, dtype=np.float64).T, 0.0)
    return whiskers


def curves(panels: Mapping[str, Mapping[str, Points]], best: float | None) -> Figure:
    """A panel a title, a line a name, over the steps of the run; two panels in a row.

    Args:
        panels: Title, then name, then points.
        best: Step of the best weights, marked by a line; None for none.
    """
    rows = (len(panels) + 1) // 2
    figure, axes = axes_of(10, 2.8 * rows, 2, rows)
    for one in axes[len(panels) :]:
        one.set_visible(False)
    for one, (title, lines) in zip(axes, panels.items(), strict=False):
        for colour, (name, points) in zip(CURVES, lines.items(), strict=False):
            thinned = points[:: len(points) // MAX_POINTS + 1]
            steps, values = zip(*thinned, strict=True)
            marker = "o" if len(points) <= 30 else None
            one.plot(steps, values, color=colour, label=name, marker=marker, markersize=3.5)
        if best is not None:
            one.axvline(best, color="black", linewidth=1, linestyle=":")
        one.sharex(axes[0])
        one.margins(y=0.12)
        one.grid(alpha=0.25)
        one.set_xlabel("step", fontsize=9)
        one.xaxis.set_major_locator(MaxNLocator(integer=True))
        one.yaxis.set_major_formatter("{x:g}")
        if len(lines) > 1:
            _legend(one)
        _title(one, title)
    return figure


def rank_table(counts: NDArray[np.int64], buckets: Sequence[str]) -> Figure:
    """Questions by rank before (rows) and after (columns); beside it the ranks of each model.

    Args:
        counts: (buckets, buckets) questions.
        buckets: Their names, best first.
    """
    figure, axes = axes_of(10, 3.4, 2)
    share = counts / max(1, counts.max())
    for row, column in np.ndindex(counts.shape):
        colour = UP if column < row else DOWN if column > row else BASE
        strength = 0.1 + 0.75 * share[row, column] if counts[row, column] else 0.03
        corner = column - 0.5, row - 0.5
        axes[0].add_patch(Rectangle(corner, 1, 1, facecolor=colour, alpha=strength))
        if counts[row, column]:
            axes[0].text(column, row, str(counts[row, column]), ha="center", va="center")
    places = np.arange(len(buckets))
    axes[0].set_xlim(-0.5, len(buckets) - 0.5)
    axes[0].set_ylim(len(buckets) - 0.5, -0.5)
    axes[0].set_xticks(places, buckets)
    axes[0].set_yticks(places, buckets)
    axes[0].spines[:].set_visible(False)
    axes[0].tick_params(length=0)
    axes[0].set_xlabel("rank by the tuned model", fontsize=9)
    axes[0].set_ylabel("rank by the base model", fontsize=9)
    _title(axes[0], "below the diagonal: found earlier now")
    for index, (name, totals) in enumerate((("base", counts.sum(1)), ("tuned", counts.sum(0)))):
        drawn = axes[1].bar(
            places + (index - 0.5) * 0.4, totals, 0.37, color=(BASE, TUNED)[index], label=name
        )
        axes[1].bar_label(drawn, fontsize=8)
    axes[1].set_xticks(places, buckets)
    axes[1].margins(y=0.18)
    axes[1].set_xlabel("rank of the best right answer", fontsize=9)
    _legend(axes[1])
    _title(axes[1], "questions by rank")
    return figure


def similarities(models: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]) -> Figure:
    """Histograms of the cosine similarities of right and of wrong pairs, a panel a model."""
    figure, axes = axes_of(10, 2.9, len(models))
    values = np.concatenate([values for pair in models.values() for values in pair])
    bins = np.linspace(values.min() - 1e-6, values.max() + 1e-6, 33).tolist()
    for one, (name, (right_N, wrong_N)) in zip(axes, models.items(), strict=True):
        for pairs, colour, label in ((wrong_N, BASE, "wrong pairs"), (right_N, UP, "right pairs")):
            if len(pairs):
                weights = np.full(len(pairs), 100 / len(pairs))
                one.hist(pairs, bins, weights=weights, color=colour, alpha=0.55, label=label)
                one.hist(pairs, bins, weights=weights, color=colour, histtype="step", linewidth=1.3)
        one.set_xlabel("cosine similarity", fontsize=9)
        one.set_ylabel("% of the pairs", fontsize=9)
        _legend(one)
        one.sharey(axes[0])
        _title(one, name)
    return figure


def pair_map(
    models: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]],
    change_S: NDArray[np.int64],
) -> Figure:
    """Questions joined to their answers in two dimensions, a panel a model, on the same axes.

    Args:
        models: By name, the (S, T) places of questions and of answers.
        change_S: Sign of the question's change: 1 found earlier, -1 later, 0 as before.
    """
    figure, axes = axes_of(10, 4.9 if len(models) > 1 else 6, len(models))
    kinds = {1: (UP, "found earlier"), 0: (BASE, "as before"), -1: (DOWN, "found later")}
    for one, (name, (questions_ST, answers_ST)) in zip(axes, models.items(), strict=True):
        for sign, (colour, label) in kinds.items():
            chosen = change_S == sign
            if not chosen.any():
                continue
            questions, answers = questions_ST[chosen], answers_ST[chosen]
            across, up = (np.stack([questions[:, axis], answers[:, axis]]) for axis in (0, 1))
            one.plot(across, up, color=colour, linewidth=0.8, alpha=0.55, zorder=1)
            one.plot(*questions.T, "o", color=colour, markersize=4.5, label=f"question, {label}")
            one.plot(*answers.T, "s", color=colour, markersize=4.5, markerfacecolor="none")
        one.set_xticks([])
        one.set_yticks([])
        one.spines[:].set_visible(True)
        one.spines[:].set_alpha(0.3)
        one.sharex(axes[0])
        one.sharey(axes[0])
        one.margins(0.06)
        _title(one, name)
    if len(models) > 1:
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="lower center", ncols=3, fontsize=9, frameon=False)
    return figure
