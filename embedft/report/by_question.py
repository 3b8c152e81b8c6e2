"""nDCG@10 of each held-out question, and means of the files that the questions are from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedft.evaluation.metrics import PRIMARY
from embedft.table.record import Record, normalize_name
from embedft.tools.files import replacing_file


def write_by_question(
    path: Path, rows: Sequence[Record], ndcg: Mapping[str, NDArray[np.float64]]
) -> None:
    """Writes a line per question: ``id``, ``file_name``, ``question`` and nDCG@10 by each model.

    Args:
        path: A JSONL file.
        rows: The rows of the questions.
        ndcg: (questions,) by the name of the model, in the order of the rows.
    """
    with replacing_file(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for index, row in enumerate(rows):
            entry = {
                "id": row.id,
                "file_name": row.file_name or None,
                "question": row.question,
                PRIMARY: {model: float(values[index]) for model, values in ndcg.items()},
            }
            stream.write(json.dumps(entry, ensure_ascii=False) + "\n")


def by_file(
    rows: Sequence[Record], ndcg: Mapping[str, NDArray[np.float64]]
) -> dict[str, dict[str, Any]]:
    """Number of questions and mean nDCG@10 of each file; rows without a file are left out."""
    questions: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        if row.file_name:
            questions.setdefault(normalize_name(row.file_name), []).append(index)
    return {
        name: {
            "questions": len(of_file),
            PRIMARY: {model: float(values[of_file].mean()) for model, values in ndcg.items()},
        }
        for name, of_file in sorted(questions.items())
    }
