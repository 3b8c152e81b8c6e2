from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
from sentence_transformers import SentenceTransformer
from tiny import FAMILIES, sample_rows

from embedft.encoder.encoder import Encoder
from embedft.encoder.lora import plain_name, without_adapters
from embedft.export.model_card import ModelCard
from embedft.export.sentence_transformers import export_encoder

CARD = ModelCard(base_model="tiny", embedding_dim=32, max_seq_length=48)
TEXTS = [row["answer"] for row in sample_rows()[:12]]


def embed(encoder: Encoder, texts: list[str]) -> torch.Tensor:
    ids = encoder.tokenizer(texts, truncation=True, max_length=encoder.max_seq_length)["input_ids"]
    flat = torch.tensor([token for text in ids for token in text])
    with torch.no_grad():
        embeddings: torch.Tensor = encoder(flat, torch.tensor([len(text) for text in ids]))
    return embeddings


@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_are_merged(tmp_path: Path, family: str) -> None:
    """The plain folder embeds as the encoder with adapters, and half of them is half way."""
    base = tiny.build(tmp_path / "base", family)
    encoder = Encoder(str(base), lora={"r": 4, "lora_alpha": 8, "lora_dropout": 0.1}).eval()
    torch.testing.assert_close(embed(encoder, TEXTS), embed(Encoder(str(base)).eval(), TEXTS))
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in encoder.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight), alpha=0.2)
    expected = embed(encoder, TEXTS)
    assert (expected - embed(Encoder(str(base)).eval(), TEXTS)).abs().max() > 1e-2
    export_encoder(encoder, tmp_path / "out", CARD)
    plain = Encoder(str(tmp_path / "out")).eval()
    torch.testing.assert_close(embed(plain, TEXTS), expected, rtol=0, atol=1e-6)
    model = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    torch.testing.assert_close(
        model.encode(TEXTS, convert_to_tensor=True), expected, rtol=0, atol=2e-6
    )

    state = plain.state_dict()
    untrained = Encoder(str(base)).state_dict()
    plain.load_state_dict({k: w.lerp(untrained[k], 0.25) for k, w in state.items()})
    tuned = encoder.weights()
    zero = encoder.base_weights()
    encoder.load_state_dict({k: w.lerp(zero[k], 0.25) for k, w in tuned.items()})
    torch.testing.assert_close(embed(encoder, TEXTS), embed(plain, TEXTS), rtol=0, atol=1e-5)
    encoder.restore_base_weights()
    torch.testing.assert_close(embed(encoder, TEXTS), embed(Encoder(str(base)).eval(), TEXTS))


def test_only_adapters_are_trainable(tiny_model: Path) -> None:
    encoder = Encoder(str(tiny_model), lora={"r": 2})
    trainable = {name for name, weight in encoder.named_parameters() if weight.requires_grad}
    assert trainable
    assert all(".lora_" in name for name in trainable)


def test_a_state_without_adapters_has_the_weights_of_the_base_model() -> None:
    """The second factor of an adapter is zero, the first is kept."""
    assert plain_name("layer.dense.base_layer.weight") == "layer.dense.weight"
    state = {
        "dense.base_layer.weight": torch.full((2, 2), 5.0),
        "dense.lora_A.default.weight": torch.full((1, 2), 6.0),
        "dense.lora_B.default.weight": torch.full((2, 1), 7.0),
    }
    restored = without_adapters(state, {"dense.weight": torch.ones(2, 2)})
    assert restored.keys() == state.keys()
    assert [float(weight.mean()) for weight in restored.values()] == [1.0, 6.0, 0.0]
