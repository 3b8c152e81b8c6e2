"""What is trained on, what is measured, and what is searched, by the file alone."""

from __future__ import annotations

from pathlib import Path

from loaded_data import loaded

from embedft.encoder.encoder import Encoder


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
