"""Report data of a made-up run, small enough to check by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from embedft.data.texts import Document
from embedft.evaluation.metrics import NAMES, query_values
from embedft.evaluation.query_results import QueryResults
from embedft.report.run_data import ReportData
from embedft.table.record import Record

QUESTIONS = 4


def record(index: int) -> Record:
    """The row of a question; rows 2 and 3 are of one file."""
    return Record(
        index + 1, f"id{index}", f"question {index}?", "An answer.", file_name=f"{index // 2}.pdf"
    )


def results(ranks: list[int]) -> QueryResults:
    """Results with these ranks; the relevant answer of question i is document i of ten."""
    top = torch.tensor(
        [[i if rank == 1 + k else 9 - k for k in range(3)] for i, rank in enumerate(ranks)]
    )
    generator = torch.Generator().manual_seed(sum(ranks))
    return QueryResults(
        task="t",
        values=torch.stack([query_values(torch.tensor([rank])) for rank in ranks]),
        ranks=torch.tensor(ranks),
        best_indices=torch.arange(len(ranks)),
        best_scores=torch.full((len(ranks),), 0.25, dtype=torch.float64),
        top_indices=top,
        top_scores=torch.full((len(ranks), 3), 0.5, dtype=torch.float64),
        sample=torch.arange(len(ranks)),
        question_embeddings=torch.randn(len(ranks), 8, generator=generator),
        answer_embeddings=torch.randn(len(ranks), 8, generator=generator),
    )


def evaluation(of: QueryResults, step: int) -> dict[str, Any]:
    """The means of the results."""
    return dict(zip(NAMES, of.values.mean(0).tolist(), strict=True)) | {"step": step}


def report_data(**fields: Any) -> ReportData:
    """A run in which question 0 improves from rank 7 to 1, and question 3 worsens from 1 to 2."""
    before, after = results([7, 1, 2, 1]), results([1, 1, 2, 2])
    given: dict[str, Any] = {
        "base": evaluation(before, 0),
        "tuned": evaluation(after, 30),
        "base_results": before,
        "tuned_results": after,
        "rows": [record(index) for index in range(QUESTIONS)],
        "relevant": [np.array([index]) for index in range(QUESTIONS)],
        "groups": np.arange(QUESTIONS),
        "documents": {
            index: Document(f"document {index}", "a.pdf" if index else "") for index in range(10)
        },
        "improved": [0],
        "worsened": [3],
        "facts": {"pairs": "pairs.jsonl", "rows": 12345},
    }
    return ReportData(**given | fields)
