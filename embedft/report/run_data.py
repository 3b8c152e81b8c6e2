"""What a report is made of: the evaluations of two models, and the texts behind their figures."""

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

EXAMPLES = 5
"""Questions of each kind that are shown with their answers."""


@dataclass(frozen=True, slots=True)
class ReportData:
    """All that a report shows.

    Attributes:
        base: Evaluation of the base model; None where it was not measured.
        tuned: Evaluation of the tuned model; None where only the base model was measured.
        before: What the base model found; None where it was not measured on these questions.
        after: What the tuned model found, likewise.
        rows: (queries,) the row of each question.
        relevant: For each question the places of its right answers.
        documents: Texts of the corpus by place: all that are shown.
        risen: Questions whose right answer rose most, the first most of all.
        fallen: Questions whose right answer fell most, likewise.
        data: Counts and names in words.
        settings: Names and values.
        forgetting: What was forgotten, in words; empty where that was not measured.
        log: Lines of ``training_metrics.jsonl``.
    """

    base: dict[str, Any] | None
    tuned: dict[str, Any] | None
    before: QueryResults | None
    after: QueryResults | None
    rows: Sequence[Record]
    relevant: Sequence[NDArray[np.int64]]
    documents: Mapping[int, Document]
    risen: Sequence[int]
    fallen: Sequence[int]
    data: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    forgetting: str = ""
    log: Sequence[Mapping[str, Any]] = ()

    @property
    def found(self) -> dict[str, QueryResults]:
        """What was found, by the model's name."""
        models = {"base model": self.before, "tuned model": self.after}
        return {name: found for name, found in models.items() if found is not None}

    @property
    def change(self) -> NDArray[np.float64] | None:
        """(queries,) how much 1/rank of the best right answer rose; None without two models."""
        return rise(self.before, self.after)


def rise(before: QueryResults | None, after: QueryResults | None) -> NDArray[np.float64] | None:
    """(queries,) how much 1/rank of the best right answer rose: first places count most."""
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
    """Reads the texts that a report shows.

    Args:
        data: Of the run.
        evaluations: ``base`` and ``best``, where they were measured.
        results: Likewise; what is of another retrieval task than the data's is left out.
        rows: Of :func:`~embedft.data.texts.query_rows`.
        more: Other fields of :class:`ReportData`.
    """
    known = {name: found for name, found in results.items() if found.task == data.task_name}
    before, after = known.get("base"), known.get("best")
    change = rise(before, after)
    order = np.zeros(0, dtype=np.int64) if change is None else np.argsort(change, kind="stable")
    risen = [int(query) for query in order[::-1][:EXAMPLES] if change[query] > 0]  # type: ignore[index]
    fallen = [int(query) for query in order[:EXAMPLES] if change[query] < 0]  # type: ignore[index]
    places: set[int] = set()
    for found in (before, after):
        if found is not None:
            shown = found.top_indices[[*risen, *fallen]]
            places |= set(shown.flatten().tolist())
            places |= set(found.best_indices[[*risen, *fallen]].tolist())
            places |= {int(data.task.relevant[query][0]) for query in found.sample.tolist()}
    facts: dict[str, Any] = {"pairs": data.input_jsonl}
    if data.validation_jsonl is not None:
        facts["validation set"] = data.validation_jsonl
    facts |= {name.replace("_", " "): value for name, value in data.counts.items()}
    facts |= {
        "held-out questions": len(data.task.queries),
        "distinct answers they are searched in": len(data.task.corpus),
        "what a question is to find": data.positive,
    }
    return ReportData(
        base=evaluations.get("base"),
        tuned=evaluations.get("best"),
        before=before,
        after=after,
        rows=rows,
        relevant=data.task.relevant,
        documents=documents(data, sorted(places)),
        risen=risen,
        fallen=fallen,
        data=facts,
        **more,
    )


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a ``training_metrics.jsonl``; none where there is no such file."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]
