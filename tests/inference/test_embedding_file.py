from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from embedft.data.datamodule import EmbeddingDataModule
from embedft.encoder.encoder import Encoder
from embedft.inference.embed import embed_distinct, one_device_trainer
from embedft.inference.embedding_file import EmbeddingFile

Loaded = tuple[Encoder, EmbeddingDataModule]


@pytest.fixture
def loaded(pairs: Path, tiny_model: Path) -> Loaded:
    encoder, data = Encoder(str(tiny_model)), EmbeddingDataModule(str(pairs))
    data.load(encoder, False, "predict")
    return encoder, data


def opened(target: Path, loaded: Loaded, precision: str = "32-true") -> EmbeddingFile:
    encoder, data = loaded
    trainer = one_device_trainer("cpu", precision)
    return EmbeddingFile(target, data.tokens, data.predicted_texts, encoder, trainer)


def test_it_holds_the_embeddings_of_the_encoder(loaded: Loaded, tmp_path: Path) -> None:
    file = opened(tmp_path / "target", loaded)
    file.fill(16, "")
    encoder, data = loaded
    expected = embed_distinct(encoder, data.tokens, file.texts, 16, file.trainer, "")
    texts = file.texts[[3, 0, 3]]
    np.testing.assert_allclose(file.lookup(texts), expected.lookup(texts), rtol=1e-6)
    assert len(file.missing) == 0
    file.remove()
    assert list(tmp_path.glob(".target*")) == []


def test_an_interrupted_file_resumes(loaded: Loaded, tmp_path: Path) -> None:
    file = opened(tmp_path / "target", loaded)
    some = file.texts[4:7]
    file.put(some, np.ones((3, loaded[0].embedding_dim), np.float32))
    again = opened(tmp_path / "target", loaded)
    assert sorted(again.missing) == sorted(set(file.texts) - set(some))
    assert (again.lookup(some) == 1).all()


@pytest.mark.parametrize("change", ["weight", "pooling", "precision"])
def test_another_model_or_precision_starts_over(
    loaded: Loaded, tmp_path: Path, change: str
) -> None:
    opened(tmp_path / "target", loaded).fill(16, "")
    assert len(opened(tmp_path / "target", loaded).missing) == 0
    encoder = loaded[0]
    if change == "weight":
        with torch.no_grad():
            next(encoder.parameters())[0, 0] += 1
    elif change == "pooling":
        encoder.pooling = "cls"
    again = opened(
        tmp_path / "target", loaded, "bf16-mixed" if change == "precision" else "32-true"
    )
    assert len(again.missing) == len(again.texts)
