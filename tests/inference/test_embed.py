from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from embedft.data.datamodule import EmbeddingDataModule
from embedft.encoder.encoder import Encoder
from embedft.errors import InputError
from embedft.inference.embed import embed_distinct, one_device_trainer


@pytest.fixture
def loaded(pairs: Path, tiny_model: Path) -> tuple[Encoder, EmbeddingDataModule]:
    encoder, data = Encoder(str(tiny_model)), EmbeddingDataModule(str(pairs))
    data.load(encoder, False, "predict")
    return encoder, data


@pytest.fixture
def trainer() -> Trainer:
    return one_device_trainer("cpu", "32-true")


@pytest.mark.parametrize("training", [True, False])
def test_each_distinct_text_is_embedded_without_dropout(
    loaded: tuple[Encoder, EmbeddingDataModule], trainer: Trainer, training: bool
) -> None:
    encoder, data = loaded
    encoder.train(training)
    texts = data.predicted_texts[[5, 2, 9, 2, 5]]
    embeddings = embed_distinct(encoder, data.tokens, texts, 2, trainer, "")
    assert encoder.training is training
    assert embeddings.table.shape == (3, encoder.embedding_dim)
    encoder.eval()
    with torch.no_grad():
        expected = [encoder(*data.tokens.pack(np.array([text]))) for text in texts]
    found = torch.from_numpy(embeddings.lookup(texts))
    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-5, atol=1e-6)


def test_broken_weights_are_reported(
    loaded: tuple[Encoder, EmbeddingDataModule], trainer: Trainer
) -> None:
    encoder, data = loaded
    with torch.no_grad():
        next(encoder.parameters()).fill_(float("nan"))
    with pytest.raises(InputError, match="an embedding is NaN or infinite"):
        embed_distinct(encoder, data.tokens, data.predicted_texts, 8, trainer, "")
    assert encoder.training


@pytest.mark.parametrize(("accelerator", "precision"), [("abacus", "32-true"), ("cpu", "3-true")])
def test_unknown_devices_and_precisions_are_refused(accelerator: str, precision: str) -> None:
    with pytest.raises(InputError):
        one_device_trainer(accelerator, precision)
