"""What is trained on, what is measured, and what is searched, by the file alone."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import sample_rows, write_jsonl

from embedft.data.datamodule import EmbeddingDataModule
from embedft.data.texts import documents, query_rows
from embedft.encoder.encoder import Encoder
from embedft.errors import InputError


@pytest.fixture(scope="module")
def encoder(tiny_model: Path) -> Encoder:
    return Encoder(str(tiny_model))


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


def test_wrong_answers_are_searched_whatever_the_loss(tmp_path: Path, encoder: Encoder) -> None:
    path = labelled(tmp_path)
    ranking, pair = (loaded(path, encoder, needs_labels=needs) for needs in (False, True))
    assert len(ranking.task.corpus) == len(pair.task.corpus) == 180
    assert ranking.fit_data.task_name == pair.fit_data.task_name
    assert (len(ranking.pairs), len(pair.pairs)) == (54, 162)
    assert (len(ranking.fit_data.validation_pairs), len(pair.fit_data.validation_pairs)) == (6, 18)
    texts = [documents(data, range(180)) for data in (ranking, pair)]
    assert texts[0] == texts[1]
    assert len({document.text for document in texts[0].values()}) == 180


def test_labelled_rows_are_all_measured(tmp_path: Path, encoder: Encoder) -> None:
    """As a forgetting set is."""
    data = loaded(labelled(tmp_path), encoder, train_split=0, stage="test")
    assert (len(data.task.queries), len(data.task.corpus)) == (60, 180)


def test_a_fit_needs_right_answers(tmp_path: Path, encoder: Encoder) -> None:
    rows = [row | {"label": int(i >= 55)} for i, row in enumerate(sample_rows()[:60])]
    own = write_jsonl(tmp_path / "own.jsonl", sample_rows()[60:70])
    path = write_jsonl(tmp_path / "p.jsonl", [row | {"label": 0} for row in rows])
    with pytest.raises(InputError, match="fewer than 2 pairs reach 0.5"):
        loaded(path, encoder, validation_jsonl=str(own))


def test_a_held_out_pair_without_a_label_is_right(tmp_path: Path, encoder: Encoder) -> None:
    path = labelled(tmp_path)
    own = write_jsonl(tmp_path / "own.jsonl", sample_rows()[60:70])
    data = loaded(path, encoder, validation_jsonl=str(own), needs_labels=True)
    assert data.fit_data.validation_pairs.labels is not None
    assert data.fit_data.validation_pairs.labels.tolist() == [1.0] * 10


def test_what_has_been_loaded_for_a_fit_can_be_predicted(pairs: Path, encoder: Encoder) -> None:
    data = loaded(pairs, encoder)
    task = data.task
    data.load(encoder, False, "test")
    assert data.task is task
    data.load(encoder, False, "predict")
    assert len(data.predicted_texts) == 120
    data.load(encoder, False, "test")
    assert len(data.pairs) == 55
    data.load(encoder, False, "fit")


@pytest.mark.parametrize("change", ["", "first", "last"])
def test_a_file_that_changed_is_not_read_again(pairs: Path, encoder: Encoder, change: str) -> None:
    data = loaded(pairs, encoder)
    lines = pairs.read_bytes().splitlines(keepends=True)
    names = [row.id for row in query_rows(data)]
    assert len(set(names)) == 5
    changed = {"": [], "first": lines[1:] + lines[:1], "last": lines[:-1]}[change]
    pairs.write_bytes(b"".join(changed))
    with pytest.raises(InputError, match="pairs.jsonl: changed during the run"):
        query_rows(data)


def test_a_pipe_is_refused(tmp_path: Path, encoder: Encoder) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe: is a pipe"):
        loaded(tmp_path / "pipe", encoder)


def test_a_file_name_is_one_in_either_unicode_form(tmp_path: Path, encoder: Encoder) -> None:
    """macOS keeps names decomposed: a paper whose rows were written on two systems is one."""
    forms = [unicodedata.normalize(form, "Müller-Ångström.pdf") for form in ("NFC", "NFD")]
    assert forms[0] != forms[1]
    rows = [row | {"file_name": forms[i % 2]} for i, row in enumerate(sample_rows()[:30])]
    with pytest.raises(InputError, match="all 30 rows share files"):
        loaded(write_jsonl(tmp_path / "p.jsonl", rows), encoder)


def test_one_answer_of_two_files_is_one(tmp_path: Path, encoder: Encoder) -> None:
    rows = sample_rows()[:60]
    again = [row | {"file_name": f"{row['id']}.pdf"} for row in rows]
    path = write_jsonl(tmp_path / "p.jsonl", [*rows, *again])
    assert loaded(path, encoder).pairs.several_answers == 0
    again = [row | {"answer": row["answer"] + " Yes."} for row in rows]
    path = write_jsonl(tmp_path / "q.jsonl", [*rows, *again])
    assert loaded(path, encoder).pairs.several_answers == 1
    assert loaded(path, encoder, positive="both").pairs.several_answers == 1


def test_two_pairs_of_a_row_share_no_file(tmp_path: Path, encoder: Encoder) -> None:
    """An answer and a context of one row are not a file's two rows."""
    for whole_files in (False, True):
        path = some_rows(tmp_path, several=False, whole_files=whole_files)
        for positive in ("answer", "both"):
            assert loaded(path, encoder, positive=positive).fit_data.facts.by_file is whole_files


@pytest.mark.parametrize(("answers", "can"), [(1, False), (2, False), (3, True)])
def test_whether_a_question_has_a_wrong_answer(
    tmp_path: Path, encoder: Encoder, answers: int, can: bool
) -> None:
    own = [{"question": "one", "answer": f"answer {i}"} for i in range(min(answers, 2))]
    own += [{"question": "two", "answer": "answer 2"}] * (answers > 2)
    path = write_jsonl(tmp_path / "own.jsonl", own)
    train = write_jsonl(tmp_path / "p.jsonl", sample_rows()[:20])
    data = loaded(train, encoder, validation_jsonl=str(path), needs_labels=True)
    assert data.fit_data.validation_pairs.can_draw_negatives is can
    assert np.unique(data.fit_data.validation_pairs.positive_id).size == answers


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("whole_files", [False, True])
def test_facts_of_the_training_pairs(
    tmp_path: Path, encoder: Encoder, several: bool, whole_files: bool
) -> None:
    """What the recipe is chosen by; test_recipe.py has its rules."""
    path = some_rows(tmp_path, several, whole_files)
    data = loaded(path, encoder, file_batches="auto", split_seed=1)
    facts = data.fit_data.facts
    assert facts.pairs == len(data.pairs)
    assert facts.one_answer is not several
    assert facts.share_a_file == whole_files
    assert data.training.recipe.file_batches is whole_files
    assert not loaded(
        path, encoder, file_batches="auto", needs_labels=True
    ).training.recipe.file_batches


def some_rows(tmp_path: Path, several: bool, whole_files: bool) -> Path:
    rows = sample_rows()[:60]
    if not whole_files:
        rows = [row | {"file_name": f"{row['id']}.pdf"} for row in rows]
    if several:
        rows[1]["question"] = rows[0]["question"].upper()
    return write_jsonl(tmp_path / "rows.jsonl", rows)
