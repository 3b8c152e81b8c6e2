from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import sample_rows, write_jsonl

from embedft.encoder.encoder import Encoder
from embedft.errors import InputError
from embedft.inference.search_index import SearchIndex


@pytest.fixture
def index(pairs: Path, tiny_model: Path, tmp_path: Path) -> SearchIndex:
    rows = sample_rows()[:20]
    rows.append(rows[3] | {"id": "again", "answer": rows[3]["answer"].upper()})
    return SearchIndex(
        str(tiny_model),
        str(write_jsonl(pairs, rows)),
        accelerator="cpu",
        precision="32-true",
        index_dir=str(tmp_path / "indexes"),
    )


def test_hits_are_those_of_all_cosines(index: SearchIndex, tiny_model: Path) -> None:
    rows = sample_rows()[:20]
    encoder = Encoder(str(tiny_model)).eval()

    def embed(texts: list[str]) -> torch.Tensor:
        ids = encoder.tokenizer(texts, truncation=True, max_length=48)["input_ids"]
        flat = torch.tensor([token for text in ids for token in text])
        with torch.no_grad():
            embeddings: torch.Tensor = encoder(flat, torch.tensor([len(text) for text in ids]))
        return torch.nn.functional.normalize(embeddings, dim=-1)

    questions = [row["question"] for row in rows[:3]]
    scores = embed(questions) @ embed([row["answer"] for row in rows]).T
    assert len(index) == 20
    for hits, expected in zip(index.search(questions, top_k=99), scores, strict=True):
        best_first = expected.argsort(descending=True).tolist()
        assert [hit.ids[0] for hit in hits] == [rows[row]["id"] for row in best_first]
        np.testing.assert_allclose(
            [hit.score for hit in hits], expected.sort(descending=True).values, atol=1e-5
        )
    (repeated,) = [hit for hit in index.search("anything", 99)[0] if len(hit.ids) > 1]
    assert repeated.ids == [rows[3]["id"], "again"]
    assert repeated.text == rows[3]["answer"]


def test_no_question_has_no_hits(index: SearchIndex) -> None:
    assert index.search([]) == []


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (3, "question 3: is not a string"),
        (" ", "question: is empty"),
        ("\udcff", "is not UTF-8"),
    ],
)
def test_bad_questions(index: SearchIndex, question: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        index.search(["good", question])


def test_at_least_one_answer(index: SearchIndex) -> None:
    with pytest.raises(InputError, match="top_k: is 0, must be at least 1"):
        index.search("anything", top_k=0)
