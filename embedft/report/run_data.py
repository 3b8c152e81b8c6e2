"""The data of a report: the evaluations of two models, and the texts behind them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedft.data.datamodule import EmbeddingDataModule
from embedft.data.texts import Document, documents
from embedft.evaluation.query_results import QueryResults
from embedft.table.record import Record

BASE, TUNED = "base model", "tuned model"
EXAMPLES = 5
"""Most improved questions shown with their answers, and as many most worsened ones."""


@dataclass(frozen=True, slots=True)
class ReportData:
    """All that a report shows.

    Attributes:
        base: Evaluation of the base model; None if it was not measured.
        tuned: Evaluation of the tuned model; None if only the base model was measured.
        base_results: Results of the base model by question; None if it was not measured on these
            questions.
        tuned_results: Results of the tuned model by question; None as above.
        rows: (queries,) the row of each question.
        relevant: For each question the corpus indices of its relevant answers.
        groups: (queries,) equal for questions that are not independent.
        documents: The texts that are shown, by corpus index.
        improved: Questions whose relevant answer rose in rank, the most improved first.
        worsened: Questions whose relevant answer fell in rank, the most worsened first.
        facts: Names and values about the data, in words.
        settings: Names and values.
        forgetting: One sentence on forgetting; empty if it was not measured.
        log: Lines of ``training_metrics.jsonl``.
    """

    base: dict[str, Any] | None
    tuned: dict[str, Any] | None
    base_results: QueryResults | None
    tuned_results: QueryResults | None
    rows: Sequence[Record]
    relevant: Sequence[NDArray[np.int64]]
    groups: NDArray[np.int64]
    documents: Mapping[int, Document]
    improved: Sequence[int]
    worsened: Sequence[int]
    facts: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    forgetting: str = ""
    log: Sequence[Mapping[str, Any]] = ()

    @property
    def evaluations(self) -> dict[str, dict[str, Any]]:
        """The evaluations that there are, by the model's name."""
        models = {BASE: self.base, TUNED: self.tuned}
        return {name: evaluation for name, evaluation in models.items() if evaluation is not None}

    @property
    def results(self) -> dict[str, QueryResults]:
        """The results by question that there are, by the model's name."""
        models = {BASE: self.base_results, TUNED: self.tuned_results}
        return {name: results for name, results in models.items() if results is not None}

    @property
    def change(self) -> NDArray[np.float64] | None:
        """(queries,) change of 1/rank of the best relevant answer; None without two models."""
        return rank_change(self.base_results, self.tuned_results)


def rank_change(
    before: QueryResults | None, after: QueryResults | None
) -> NDArray[np.float64] | None:
    """(queries,) change of 1/rank of the best relevant answer: the first ranks count most."""
    if before is None or after is None:
        return None
    return (1 / after.ranks.double() - 1 / before.ranks.double()).numpy()


def collect(
    data: EmbeddingDataModule,
    evaluations: Mapping[str, dict[str, Any] | None],
    results: Mapping[str, QueryResults],
    rows: Sequence[Record],
    **more: Any,
) -> ReportData:
    """Collects what a report shows, and reads its texts from the files.

    Args:
        data: The data of the run.
        evaluations: ``base`` and ``best``, if they were measured.
        results: Results by question of the same; those of another retrieval task are left out.
        rows: The questions' rows, by :func:`~embedft.data.texts.query_rows`.
        more: Other fields of :class:`ReportData`.
    """
    task_name = data.fit_data.task_name
    of_task = {name: found for name, found in results.items() if found.task == task_name}
    before, after = of_task.get("base"), of_task.get("best")
    improved: list[int] = []
    worsened: list[int] = []
    if (change := rank_change(before, after)) is not None:
        order = np.argsort(change, kind="stable").tolist()
        improved = [query for query in order[::-1][:EXAMPLES] if change[query] > 0]
        worsened = [query for query in order[:EXAMPLES] if change[query] < 0]
    shown: set[int] = set()
    for found in (before, after):
        if found is not None:
            shown.update(found.top_indices[[*improved, *worsened]].flatten().tolist())
            shown.update(found.best_indices[[*improved, *worsened]].tolist())
            shown.update(int(data.task.relevant[query][0]) for query in found.sample.tolist())
    return ReportData(
        base=evaluations.get("base"),
        tuned=evaluations.get("best"),
        base_results=before,
        tuned_results=after,
        rows=rows,
        relevant=data.task.relevant,
        groups=data.task.groups,
        documents=documents(data, sorted(shown)),
        improved=improved,
        worsened=worsened,
        facts=_facts(data),
        **more,
    )


def _facts(data: EmbeddingDataModule) -> dict[str, Any]:
    facts: dict[str, Any] = {"pairs": data.input_jsonl}
    if data.validation_jsonl is not None:
        facts["validation set"] = data.validation_jsonl
    facts |= {name.replace("_", " "): value for name, value in data.fit_data.counts.items()}
    return facts | {
        "held-out questions": len(data.task.queries),
        "answers in the corpus": len(data.task.corpus),
        "target of a question": data.positive,
    }


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a ``training_metrics.jsonl``; none if there is no such file."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]
