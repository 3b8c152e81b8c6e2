"""Which weights of a run are the best: while it trains, and at its end.

Shape suffix: Q held-out questions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from embedft.evaluation.significance import Groups, paired_interval
from embedft.evaluation.verdict import is_worse


def is_highest(highest_Q: NDArray[np.float64], latest_Q: NDArray[np.float64]) -> bool:
    """Whether no earlier weights of the run had a higher mean nDCG@10 on the same questions.

    Args:
        highest_Q: nDCG@10 of each question by the weights with the highest mean so far.
        latest_Q: By the latest weights.
    """
    return len(highest_Q) != len(latest_Q) or bool(latest_Q.mean() >= highest_Q.mean())


def not_significantly_worse(
    highest_Q: NDArray[np.float64],
    later_Q: NDArray[np.float64],
    base_Q: NDArray[np.float64] | None,
    groups_Q: Groups | None = None,
) -> bool:
    """Whether the later weights are not significantly worse (95% interval) than the highest ones.

    A small loss on few held-out questions is chance. Later epochs, at a lower learning rate, and
    interpolations with the base model do as well on other questions and lose less on other
    domains (docs/quality.md). Weights below the base model's mean are always worse.

    Args:
        highest_Q: nDCG@10 of each question by the weights with the highest mean.
        later_Q: By later weights, or by an interpolation with the base model.
        base_Q: By the base model; None if it was not evaluated.
        groups_Q: Equal for questions that are not independent; None if each one is.
    """
    if base_Q is not None and later_Q.mean() < base_Q.mean():
        return False
    return bool(paired_interval(highest_Q, later_Q, groups_Q).high >= 0)


def how_best_model_differs(metrics_file: Path) -> str:
    """How ``best_model`` of a finished run differs from ``best.ckpt``; empty if it does not.

    Args:
        metrics_file: ``metrics.json`` of the run.
    """
    try:
        chosen = json.loads(metrics_file.read_text(encoding="utf-8"))["best_model"]
    except (OSError, ValueError, KeyError):  # the run is not finished
        return ""
    if chosen.get("step") == 0:
        return "is the base model"
    if share := chosen.get("base_share"):
        return f"is a mean of these weights and {share:.0%} of the base model's"
    return ""


def choose_best_model(
    evaluations: Mapping[str, dict[str, Any]],
) -> Literal["base", "interpolated", "tuned"]:
    """Which weights become ``best_model``.

    Args:
        evaluations: ``best``, and ``base`` if the base model was evaluated. ``base_share`` in
            ``best`` means that an interpolation with the base model replaced it.
    """
    if evaluations["best"].get("base_share"):
        return "interpolated"
    return "base" if is_worse(evaluations.get("base"), evaluations["best"]) else "tuned"
