"""Whether the tuned model is better than the base model: one sentence and one table."""

from __future__ import annotations

from typing import Any

from embedft.evaluation.metrics import LABELS, PRIMARY, shown_in
from embedft.evaluation.significance import Gain
from embedft.tools.text import plain_table


def is_worse(base: dict[str, Any] | None, tuned: dict[str, Any] | None) -> bool:
    """Whether the tuned weights have a lower nDCG@10 than the base model."""
    return base is not None and tuned is not None and tuned[PRIMARY] < base[PRIMARY]


def is_significantly_better(base: dict[str, Any] | None, tuned: dict[str, Any] | None) -> bool:
    """Whether the gain is significant, on questions that were not used for training."""
    if tuned is None or tuned.get("trained_on") or is_worse(base, tuned):
        return False
    return tuned.get("gain") is not None and Gain(**tuned["gain"]).is_significant


def verdict(base: dict[str, Any] | None, tuned: dict[str, Any] | None) -> str:
    """One sentence that says whether the tuned model is better than the base model.

    It is empty if one of the two was not measured. If some of the questions were used for training,
    the sentence says so and gives no verdict.
    """
    if base is None or tuned is None:
        return ""
    before, after = base[PRIMARY], tuned[PRIMARY]
    if tuned.get("step") == 0:
        return (
            "best_model is the unmodified base model: no checkpoint scored as well on the held-out "
            f"questions ({LABELS[PRIMARY]} {before:.4f})."
        )
    gain = Gain(**tuned["gain"]) if tuned.get("gain") else None
    numbers = f"({LABELS[PRIMARY]} {before:.4f} before, {after:.4f} after)"
    if gain is not None:
        numbers = f"({LABELS[PRIMARY]} {before:.4f} before, {after:.4f} after: {gain})"
    if trained_on := tuned.get("trained_on"):
        return (
            f"No verdict: {trained_on} of the questions were used for training {numbers}. Use the "
            "run's own split, or evaluate on other pairs."
        )
    if after < before:
        return (
            f"The tuned model is WORSE than the base model on the held-out questions {numbers}. "
            "Train on more or cleaner pairs, or with a lower learning rate."
        )
    if after == before:
        return f"The tuned model is no better than the base model {numbers}."
    if gain is not None and not gain.is_significant:
        return (
            "The tuned model is not significantly better than the base model: there are too few "
            f"independent held-out questions, or the gain is too small {numbers}."
        )
    return f"The tuned model is better than the base model on the held-out questions {numbers}."


def comparison(evaluations: dict[str, dict[str, Any] | None]) -> str:
    """A Markdown table with a row per metric: each evaluation, then the second minus the first."""
    known = {name: values for name, values in evaluations.items() if values is not None}
    columns = list(known.values())
    head = ["metric", *known]
    if len(known) > 1:
        first, second, *_ = known
        head.append(f"{second} - {first}")
    of_dimensions = [
        name
        for name in columns[0]
        if name.startswith(f"{PRIMARY}/dim_") and all(name in values for values in columns)
    ]
    rows = []
    for metric in (*shown_in(*columns), *of_dimensions):
        cells = [f"{values[metric]:.4f}" for values in columns]
        if len(columns) > 1:
            cells.append(f"{columns[1][metric] - columns[0][metric]:+.4f}")
        rows.append([metric, *cells])
    return plain_table(head, rows)
