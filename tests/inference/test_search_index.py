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
    rows.append(rows[3] | {"id": "again", "answer": f" {rows[3]['answer']}\n"})
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


def test_texts_that_differ_in_case_or_form_are_two_answers(
    tiny_model: Path, tmp_path: Path
) -> None:
    answers = ["5 mW", "5 MW", "25", "2⁵", "5 mW"]
    rows = [{"question": f"q {number}", "answer": text} for number, text in enumerate(answers)]
    path = write_jsonl(tmp_path / "p.jsonl", rows)
    index = SearchIndex(
        str(tiny_model), str(path), accelerator="cpu", index_dir=str(tmp_path / "indexes")
    )
    hits = index.search("anything", 9)[0]
    assert {hit.text: hit.ids for hit in hits} == {
        "5 mW": ["1", "5"],
        "5 MW": ["2"],
        "25": ["3"],
        "2⁵": ["4"],
    }


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
