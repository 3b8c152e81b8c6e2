"""Datamodules that have loaded a file, and files with labels, repeats and documents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny import sample_rows, write_jsonl

from embedft.data.datamodule import EmbeddingDataModule
from embedft.encoder.encoder import Encoder


def loaded(path: Path, encoder: Encoder, **options: Any) -> EmbeddingDataModule:
    needs_labels, stage = options.pop("needs_labels", False), options.pop("stage", "fit")
    data = EmbeddingDataModule(str(path), **options)
    data.load(encoder, needs_labels, stage)
    return data


def labelled(tmp_path: Path) -> Path:
    """60 questions with a right answer and two wrong ones each, which no other question has."""
    rows = [
        {"question": row["question"], "answer": f"{row['answer']} {name}", "label": label}
        for row in sample_rows()[:60]
        for name, label in (("", 1), ("not", 0), ("nor", 0.4))
    ]
    return write_jsonl(tmp_path / "labelled.jsonl", rows)
