"""Metrics and losses of the held-out pairs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from oracle import read_records, split_records
from runs import METRICS, FinishedRun
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
from tiny import read_jsonl, sample_rows, write_jsonl
from torch.nn.functional import cross_entropy

from embedft.encoder.base_model import find_base_model
from embedft.training.validation import RetrievalEvaluation


def with_wrong(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, and each again with the answer of another row of its file and the label 0."""
    answers = [rows[i - i % 5 + (i + 1) % 5]["answer"] for i in range(len(rows))]
    wrong = [
        row | {"answer": answer, "label": 0.0} for row, answer in zip(rows, answers, strict=True)
    ]
    return [row | {"label": 1.0} for row in rows] + wrong


@pytest.mark.parametrize("labels", [False, True])
def test_losses_of_the_held_out_pairs(fit: Callable[..., Path], pairs: Path, labels: bool) -> None:
    """They equal those of sentence-transformers' embeddings; pairs with the label 0 don't count."""
    rows = sample_rows()[:60]
    if labels:
        rows = with_wrong(rows)
    write_jsonl(pairs, rows)
    out = fit("--epochs=1", "--batch_size=64")
    ids = {line["id"] for line in read_jsonl(out / "metrics_by_question.jsonl")}
    held_out = [row for row in rows if row["id"] in ids and row.get("label") != 0]
    assert len(held_out) >= 10
    model = SentenceTransformer(str(out / "final_model"), device="cpu")
    anchors, positives = (
        model.encode([row[name] for row in held_out], convert_to_tensor=True)
        for name in ("question", "answer")
    )
    similarity = anchors @ positives.T
    metrics = json.loads((out / "metrics.json").read_text())["last"]
    target = torch.arange(len(held_out))
    both = [cross_entropy(20 * scores, target) for scores in (similarity, similarity.T)]
    assert metrics["loss"] == pytest.approx(float(sum(both)) / 2, abs=1e-4)
    expected = 1 - similarity.diagonal().mean()
    assert metrics["cosine_pair_loss"] == pytest.approx(float(expected), abs=1e-5)


def test_every_loss_measures_the_same_held_out_pairs(fit: Callable[..., Path], pairs: Path) -> None:
    """Also a loss that trains on pairs with the label 0."""
    write_jsonl(pairs, with_wrong(sample_rows()[:60]))
    figures, trained = [], []
    for loss in ("mnrl", "contrastive"):
        out = fit(
            "--trainer.max_steps=1", f"--loss_function={loss}", output_dir=pairs.with_name(loss)
        )
        metrics = json.loads((out / "metrics.json").read_text())
        figures.append(metrics["base"]["cosine_pair_loss"])
        trained.append(metrics["data"]["train_examples"])
    assert figures[0] == pytest.approx(figures[1], abs=1e-6)
    assert trained[0] < trained[1]


def test_metrics_equal_those_of_sentence_transformers(finished_minilm_run: FinishedRun) -> None:
    """End to end: its evaluator measures the base and tuned folders on the same split."""
    out = finished_minilm_run.folder
    metrics = json.loads((out / "metrics.json").read_text())
    base = find_base_model(tiny.MINILM).folder
    records, _ = read_records(finished_minilm_run.pairs)
    held_out = split_records(records, 0.8, seed=42).validation
    evaluator = InformationRetrievalEvaluator(
        {str(row): records[row].question for row in held_out},
        {str(row): record.answer for row, record in enumerate(records)},
        {str(row): {str(row)} for row in held_out},
    )
    for name, folder in (("base", base), ("last", out / "final_model")):
        scores = evaluator(SentenceTransformer(str(folder), device="cpu"))
        for metric in METRICS:
            assert metrics[name][metric] == pytest.approx(scores[f"cosine_{metric}"], abs=1e-6), (
                name,
                metric,
            )


def test_evaluation_every_five_steps(fit: Callable[..., Path]) -> None:
    lines = read_jsonl(fit("--evaluation_steps=5") / "training_metrics.jsonl")
    assert [line["step"] for line in lines if "val/ndcg@10" in line] == [0, 5, 10, 14]


def test_a_failed_evaluation_turns_autocast_off(
    fit: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A notebook keeps the error, and with it whatever the evaluation had opened."""

    def fails(*_: Any) -> None:
        raise RuntimeError("in the middle of an evaluation")

    with monkeypatch.context() as patch:
        patch.setattr(RetrievalEvaluation, "embed", fails)
        with pytest.raises(RuntimeError, match="in the middle") as kept:
            fit("--precision=bf16-mixed")
    assert not torch.is_autocast_enabled("cpu")
    fit("--epochs=1", "--overwrite")
    assert kept.value is not None
