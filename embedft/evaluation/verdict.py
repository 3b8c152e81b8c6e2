"""Whether the tuned model is better than the base model, in one sentence and one table."""

from __future__ import annotations

from typing import Any

from embedft.evaluation.bootstrap import Interval
from embedft.tools.text import plain_table

SHOWN = ("ndcg@10", "mrr@10", "recall@1", "recall@5", "recall@10", "map@100")


def is_worse(base: dict[str, Any] | None, tuned: dict[str, Any] | None) -> bool:
    """Whether the tuned weights find less than the base model, by nDCG@10."""
    return base is not None and tuned is not None and tuned["ndcg@10"] < base["ndcg@10"]


def verdict(base: dict[str, Any] | None, tuned: dict[str, Any] | None) -> str:
    """One plain sentence: better, the same or worse than the base model; empty if unmeasured.

    There is none where questions were trained on.
    """
    if base is None or tuned is None:
        return ""
    before, after = base["ndcg@10"], tuned["ndcg@10"]
    if tuned.get("step") == 0:
        return (
            "These are the weights of the base model: no tuned weights that were measured found as "
            f"much on the held-out questions (nDCG@10 {before:.4f})."
        )
    numbers = f"(nDCG@10 {before:.4f} before, {after:.4f} after)"
    gain = Interval(**tuned["gain"]) if tuned.get("gain") else None
    if gain is not None:
        numbers = f"(nDCG@10 {before:.4f} before, {after:.4f} after: {gain})"
    if trained_on := tuned.get("trained_on"):
        return (
            f"No verdict: {trained_on} of the questions were trained on {numbers}; hold out what "
            "the run held out, or measure other pairs."
        )
    if after < before:
        return (
            f"The tuned model is WORSE than the base model on the held-out questions {numbers}: "
            "train on more or cleaner pairs, or at a lower rate."
        )
    if after == before:
        return f"The tuned model is no better than the base model {numbers}."
    if gain is not None and gain.low <= 0:
        return (
            "The tuned model may be better than the base model, but the held-out questions are too "
            f"few or the gain is too small to tell it from chance {numbers}."
        )
    return f"The tuned model is better than the base model on the held-out questions {numbers}."


def comparison(evaluations: dict[str, dict[str, Any] | None]) -> str:
    """A Markdown table, a row a metric: each evaluation, then the second less the first."""
    known = {name: values for name, values in evaluations.items() if values is not None}
    columns = list(known.values())
    rows = [["metric", *known]]
    if len(known) > 1:
        first, second, *_ = known
        rows[0].append(f"{second} - {first}")
    of_dimensions = [
        name
        for name in columns[0]
        if name.startswith("ndcg@10/dim_") and all(name in values for values in columns)
    ]
    for metric in (*SHOWN, *of_dimensions):
        cells = [f"{values[metric]:.4f}" for values in columns]
        if len(columns) > 1:
            cells.append(f"{columns[1][metric] - columns[0][metric]:+.4f}")
        rows.append([metric, *cells])
    return plain_table(rows[0], rows[1:])
