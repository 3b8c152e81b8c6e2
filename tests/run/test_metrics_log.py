"""Which of a run's weights are the best."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from embedft.run import evaluations
from embedft.run.best import not_significantly_worse


@pytest.mark.parametrize(
    ("questions", "base", "top", "later", "best"),
    [
        (50, 0.70, 0.90, 0.88, True),  # less by chance
        (5000, 0.70, 0.90, 0.88, False),  # surely less
        (50, 0.70, 0.90, 0.66, False),  # surely less, and than the base model
        (50, 0.89, 0.90, 0.88, False),  # by chance, but less than the base model
        (50, None, 0.90, 0.88, True),  # the base model was not measured
        (5000, 0.80, 0.70, 0.81, True),  # training lost, a mixture with the base model did not
        (5000, 0.80, 0.70, 0.79, False),
    ],
)
def test_later_weights_find_as_much(
    questions: int, base: float | None, top: float, later: float, best: bool
) -> None:
    """Right answers are found in the first place or not at all; models agree on most questions."""
    places = np.arange(questions) / questions

    def found(share: float) -> NDArray[np.float64]:
        return (share > places).astype(np.float64)

    base_found = None if base is None else found(base)
    assert not_significantly_worse(found(top), found(later), base_found) is best


@pytest.mark.parametrize("as_much", [True, False])
def test_best_is_the_latest_that_finds_as_much(
    fit: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, as_much: bool
) -> None:
    monkeypatch.setattr(evaluations, "not_significantly_worse", lambda *found: as_much)
    folder = fit("--evaluation_steps=2", "--epochs=2")
    metrics = json.loads((folder / "metrics.json").read_text())
    lines = (folder / "training_metrics.jsonl").read_text().splitlines()
    found = [
        (line["val/ndcg@10"], line["step"])
        for line in map(json.loads, lines)
        if "val/ndcg@10" in line and line["step"]
    ]
    assert len(found) > 4
    best = found[-1] if as_much else max(found)  # of several that find most the latest
    assert (metrics["best"]["ndcg@10"], metrics["best"]["step"]) == best
