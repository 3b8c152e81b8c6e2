"""The evaluations of a run, and their state in checkpoints."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from embedft.evaluation.metrics import NAMES, PRIMARY
from embedft.evaluation.query_results import QueryResults
from embedft.run import evaluations as module
from embedft.run.evaluations import RunEvaluations


def results(ndcg: list[float], task: str = "task") -> QueryResults:
    count = len(ndcg)
    values = torch.zeros(count, len(NAMES), dtype=torch.float64)
    values[:, NAMES.index(PRIMARY)] = torch.tensor(ndcg, dtype=torch.float64)
    return QueryResults(
        task=task,
        values=values,
        ranks=torch.ones(count, dtype=torch.int64),
        best_indices=torch.arange(count),
        best_scores=torch.ones(count, dtype=torch.float64),
        top_indices=torch.arange(count)[:, None],
        top_scores=torch.ones(count, 1, dtype=torch.float64),
        sample=torch.arange(count),
        question_embeddings=torch.eye(count),
        answer_embeddings=torch.eye(count),
    )


def add(evaluations: RunEvaluations, step: int, ndcg: list[float]) -> None:
    found = results(ndcg)
    metrics = {PRIMARY: float(found.ndcg.mean())}
    entry = evaluations.entry(step, 0, metrics, found)
    if step:
        evaluations.add_last(entry, found)
    else:
        evaluations.add_base(entry, found)


def test_the_gain_is_over_the_base_model_on_the_same_task() -> None:
    evaluations = RunEvaluations()
    add(evaluations, 0, [0.5, 0.5])
    assert "gain" not in evaluations.metrics["base"]
    add(evaluations, 7, [0.7, 0.8])
    assert evaluations.metrics["last"]["gain"]["mean"] == pytest.approx(0.25)
    assert "gain" not in evaluations.entry(7, 0, {PRIMARY: 0.7}, results([0.7, 0.8], "other"))


@pytest.mark.parametrize(("worse", "best"), [(False, 3), (True, 2)])
def test_best_is_compared_with_the_highest(
    monkeypatch: pytest.MonkeyPatch, worse: bool, best: int
) -> None:
    """Not with the best: a small loss may not be followed by another one, and another one."""
    compared = []

    def decide(highest_Q: Any, later_Q: Any, base_Q: Any, groups_Q: Any) -> bool:
        compared.append((highest_Q.tolist(), later_Q.tolist()))
        return not worse

    monkeypatch.setattr(module, "not_significantly_worse", decide)
    evaluations = RunEvaluations()
    for step, ndcg in enumerate(([0.5, 0.5], [0.8, 0.9], [0.8, 0.7]), 1):
        add(evaluations, step, ndcg)
    assert evaluations.metrics["best"]["step"] == best
    assert evaluations.metrics["last"]["step"] == 3
    add(evaluations, 4, [0.7, 0.7])
    assert compared == [([0.8, 0.9], [0.8, 0.7]), ([0.8, 0.9], [0.7, 0.7])]


def old_state() -> dict[str, Any]:
    """What version 0.1 saved under ``RunFiles``; ``top`` since a later commit of it."""
    found = {
        "task": "task",
        "values": results([0.9, 0.5]).values,
        "ranks": torch.tensor([1, 2]),
        "places": torch.tensor([3, 4]),
        "scores": torch.tensor([0.5, 0.25], dtype=torch.float64),
        "top_places": torch.tensor([[3], [5]]),
        "top_scores": torch.tensor([[0.5], [0.75]], dtype=torch.float64),
        "sample": torch.tensor([0, 1]),
        "questions": torch.eye(2),
        "answers": 2 * torch.eye(2),
    }
    evaluation = {"step": 7, "epoch": 0, PRIMARY: 0.7, "loss": 1.5}
    return {
        "evaluations": {"best": evaluation, "last": evaluation},
        "findings": {"best": found, "last": found},
        "top": torch.tensor([0.9, 0.5], dtype=torch.float64),
    }


def test_an_old_state_is_read_and_written_alike() -> None:
    evaluations = RunEvaluations()
    evaluations.load_state_dict(old_state(), has_best=True)
    best = evaluations.results["best"]
    assert best.best_indices.tolist() == [3, 4]
    assert best.top_indices.tolist() == [[3], [5]]
    assert best.answer_embeddings.tolist() == [[2, 0], [0, 2]]
    again, state = evaluations.state_dict(), old_state()
    assert again["evaluations"] == state["evaluations"]
    assert again["top"].equal(state["top"])
    assert again["findings"].keys() == state["findings"].keys()
    for name, value in state["findings"]["best"].items():
        written = again["findings"]["best"][name]
        assert written == value if isinstance(value, str) else written.equal(value)
    assert again["findings"]["best"].keys() == state["findings"]["best"].keys()


@pytest.mark.parametrize("missing", ["top", "findings"])
def test_a_state_without_later_keys(missing: str) -> None:
    state = old_state()
    del state[missing]
    evaluations = RunEvaluations()
    evaluations.load_state_dict(state, has_best=True)
    add(evaluations, 14, [0.9, 0.6])
    assert evaluations.metrics["best"]["step"] == 14


def test_without_its_checkpoint_the_best_is_forgotten() -> None:
    evaluations = RunEvaluations()
    evaluations.load_state_dict(old_state(), has_best=False)
    assert evaluations.metrics.keys() == {"last"}
    add(evaluations, 14, [0.1, 0.1])
    assert evaluations.metrics["best"]["step"] == 14
