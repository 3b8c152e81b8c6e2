"""What is trained on, what is evaluated, and what is searched: decided by the file alone."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest
from loaded_data import labelled, loaded
from tiny import sample_rows, write_jsonl

from embedft.data.texts import documents
from embedft.encoder.encoder import Encoder
from embedft.errors import InputError


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
