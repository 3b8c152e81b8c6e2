"""Which weights of a run are the best.

Shape suffix: Q held-out questions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from embedft.evaluation.metrics import PRIMARY
from embedft.run.best import choose_best_model, is_highest, not_significantly_worse


@pytest.mark.parametrize(
    ("questions", "base", "top", "later", "best"),
    [
        (50, 0.70, 0.90, 0.88, True),  # less by chance
        (5000, 0.70, 0.90, 0.88, False),  # significantly less
        (50, 0.70, 0.90, 0.66, False),  # significantly less, and less than the base model
        (50, 0.89, 0.90, 0.88, False),  # by chance, but less than the base model
        (50, None, 0.90, 0.88, True),  # the base model was not measured
        (5000, 0.80, 0.70, 0.81, True),  # training lost, a mixture with the base model did not
        (5000, 0.80, 0.70, 0.79, False),
    ],
)
def test_not_significantly_worse(
    questions: int, base: float | None, top: float, later: float, best: bool
) -> None:
    """Right answers are found in the first place or not at all; models agree on most questions."""
    places = np.arange(questions) / questions

    def found(share: float) -> NDArray[np.float64]:
        return (share > places).astype(np.float64)

    base_found = None if base is None else found(base)
    assert not_significantly_worse(found(top), found(later), base_found) is best


@pytest.mark.parametrize(
    ("highest", "latest", "expected"),
    [
        ([0.5, 0.7], [0.7, 0.5], True),  # of several with the highest mean, the latest
        ([0.5, 0.7], [0.6, 0.5], False),
        ([0.5, 0.7], [0.1, 0.1, 0.1], True),  # other questions can't be compared
    ],
)
def test_is_highest(highest: list[float], latest: list[float], expected: bool) -> None:
    assert is_highest(np.array(highest), np.array(latest)) is expected


@pytest.mark.parametrize(
    ("base", "best", "share", "choice"),
    [
        (0.5, 0.6, None, "tuned"),
        (0.5, 0.5, None, "tuned"),
        (0.5, 0.4, None, "base"),
        (None, 0.4, None, "tuned"),  # the base model was not evaluated
        (0.5, 0.6, 0.4, "interpolated"),
        (None, 0.4, 0.1, "interpolated"),
    ],
)
def test_best_model(base: float | None, best: float, share: float | None, choice: str) -> None:
    evaluations: dict[str, dict[str, Any]] = {"best": {PRIMARY: best}}
    if base is not None:
        evaluations["base"] = {PRIMARY: base}
    if share is not None:
        evaluations["best"]["base_share"] = share
    assert choose_best_model(evaluations) == choice
