"""The figures of the page that ``check`` writes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from embedft.check.measures import DataMeasures
from embedft.check.text_measures import COPIED
from embedft.report.charts import make_axes
from embedft.report.page import Image, image
from embedft.table.keys import Ints
from embedft.table.tokens import describe_truncation

_BINS = 40


def charts(data: DataMeasures, limit: int) -> Iterator[Image]:
    """Lengths, pairs per file, copied questions and languages, if there are any.

    Args:
        data: The measures of the file.
        limit: Tokens at which texts are truncated.
    """
    for name, lengths in data.tokens.items():
        if len(lengths):
            yield _lengths(name, lengths, limit)
    if len(counts := data.pairs_per_file):
        figure, axes = _figure("pairs per file", "files")
        axes.hist(counts, bins=min(_BINS, int(counts.max())), range=(0.5, counts.max() + 0.5))
        yield image(figure, f"Number of files by their number of pairs; {len(counts):,} files.")
    figure, axes = _figure("longest run of words repeated by the answer", "questions")
    axes.hist(100 * data.texts.copied[data.used], bins=20, range=(0, 100))
    axes.axvline(100 * COPIED, color="tab:red", linestyle="--")
    axes.xaxis.set_major_formatter("{x:.0f}%")
    yield image(figure, f"Share of each question that its answer repeats; {COPIED:.0%} is copied.")
    languages = data.texts.languages.most_common(12)
    if len(languages) > 1:
        figure, axes = _figure("sampled rows", "")
        axes.barh(*zip(*reversed(languages), strict=True))
        yield image(figure, "Languages of the sampled rows, the twelve most frequent.")


def _lengths(name: str, lengths: Ints, limit: int) -> Image:
    longest = int(np.percentile(lengths, 99))
    figure, axes = _figure("tokens", name)
    width = -(-(longest - int(lengths.min()) + 1) // _BINS)  # whole tokens: no gaps between bars
    edges = np.arange(int(lengths.min()), longest + width + 1, width) - 0.5
    axes.hist(np.minimum(lengths, longest), bins=edges.tolist())
    if limit < longest:
        axes.axvline(limit, color="tab:red", linestyle="--")
    cut = describe_truncation(limit, {name: float(np.mean(lengths > limit))})
    return image(
        figure,
        f"Lengths of the {name}, the longest 1% in the last bar; {cut} (dashed, if shown).",
    )


def _figure(x: str, y: str) -> tuple[Figure, Axes]:
    """A wide figure with the names of both axes."""
    figure, (axes,) = make_axes(7, 2.4, 1)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes
