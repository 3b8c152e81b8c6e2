from __future__ import annotations

import pytest

from embedft.evaluation.metrics import SHOWN
from embedft.evaluation.verdict import comparison, is_significantly_better, is_worse, verdict

BASE = dict.fromkeys(SHOWN, 0.5)
GAIN = {"mean": 0.1, "low": 0.02, "high": 0.2}


def test_better_and_worse() -> None:
    better, worse = BASE | {"ndcg@10": 0.6, "step": 3}, BASE | {"ndcg@10": 0.4, "step": 3}
    assert "is better than the base model" in verdict(BASE, better)
    assert "is WORSE than the base model" in verdict(BASE, worse)
    assert "no better than" in verdict(BASE, BASE)
    sure = better | {"gain": {"mean": 0.1, "low": 0.02, "high": 0.2}}
    assert "is better than the base model" in verdict(BASE, sure)
    assert "+0.1000, 95% interval +0.0200 to +0.2000" in verdict(BASE, sure)
    unsure = better | {"gain": {"mean": 0.1, "low": -0.02, "high": 0.2}}
    assert "not significantly better than the base model" in verdict(BASE, unsure)
    assert "unmodified base model" in verdict(BASE, BASE | {"step": 0})
    assert is_worse(BASE, worse)
    assert not is_worse(BASE, better)
    assert not is_worse(None, worse)


def test_trained_questions_get_no_verdict() -> None:
    tuned = BASE | {"ndcg@10": 0.6, "step": 3, "gain": GAIN, "trained_on": 7}
    sentence = verdict(BASE, tuned)
    assert sentence.startswith("No verdict: 7 of the questions were used for training")
    assert not is_significantly_better(BASE, tuned)


@pytest.mark.parametrize(
    ("tuned", "expected"),
    [
        (None, False),
        ({"ndcg@10": 0.6}, False),
        ({"ndcg@10": 0.6, "gain": None}, False),
        ({"ndcg@10": 0.6, "gain": GAIN}, True),
        ({"ndcg@10": 0.6, "gain": GAIN | {"low": -0.01}}, False),
        ({"ndcg@10": 0.4, "gain": GAIN}, False),
    ],
)
def test_significantly_better(tuned: dict[str, object] | None, expected: bool) -> None:
    assert is_significantly_better(BASE, tuned) == expected


def test_unmeasured_models_get_no_verdict() -> None:
    assert verdict(None, BASE) == ""
    assert verdict(BASE, None) == ""


def test_comparison_table() -> None:
    better = BASE | {"ndcg@10": 0.6}
    table = comparison({"base": BASE, "best": better, "last": BASE}).splitlines()
    assert table[0].split() == [
        "|",
        "metric",
        "|",
        "base",
        "|",
        "best",
        "|",
        "last",
        "|",
        "best",
        "-",
        "base",
        "|",
    ]
    assert table[2].split() == [
        "|",
        "ndcg@10",
        "|",
        "0.5000",
        "|",
        "0.6000",
        "|",
        "0.5000",
        "|",
        "+0.1000",
        "|",
    ]
    assert "best_model - base" not in comparison({"base": BASE, "best_model": None})


def test_comparison_shows_each_metric_that_all_evaluations_have() -> None:
    """Also that of the first dimensions; a metric that an older run lacks is left out."""
    older = {name: value for name, value in BASE.items() if name != "map@100"}
    of_dimension = {"ndcg@10/dim_64": 0.4, "recall@1/dim_64": 0.3}
    table = comparison({"base": BASE | of_dimension, "best": BASE | of_dimension})
    names = [line.split()[1] for line in table.splitlines()[2:]]
    assert names == [*SHOWN, "ndcg@10/dim_64"]
    names = [line.split()[1] for line in comparison({"a": BASE, "b": older}).splitlines()[2:]]
    assert names == [name for name in SHOWN if name != "map@100"]
