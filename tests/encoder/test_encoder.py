from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tiny
import torch
from sentence_transformers import SentenceTransformer
from tiny import FAMILIES, MULTILINGUAL, sample_rows
from torch.utils.checkpoint import checkpoint
from transformers import AutoModel, ElectraConfig, ElectraModel

from embedft.encoder.dropout import FastDropout
from embedft.encoder.encoder import Encoder
from embedft.encoder.packing import similar_lengths
from embedft.encoder.pooling import pool
from embedft.errors import InputError
from embedft.export.model_card import ModelCard
from embedft.export.sentence_transformers import export_encoder

TEXTS = [
    "x",
    *[row["question"] for row in sample_rows(MULTILINGUAL)],
    *[row["answer"] for row in sample_rows()[:8]],
    "long " * 200,
]


def ids_of(encoder: Encoder, texts: list[str]) -> list[list[int]]:
    ids: list[list[int]] = encoder.tokenizer(
        texts, truncation=True, max_length=encoder.max_seq_length
    )["input_ids"]
    return ids


def pack(encoder: Encoder, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    ids = ids_of(encoder, texts)
    flat = torch.tensor([token for text in ids for token in text])
    return flat, torch.tensor([len(text) for text in ids])


def embed(encoder: Encoder, texts: list[str]) -> torch.Tensor:
    encoder.eval()
    with torch.no_grad():
        embeddings: torch.Tensor = encoder(*pack(encoder, texts))
    return embeddings


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build(tmp_path_factory.mktemp("family") / request.param, request.param)


def test_packed_equals_one_by_one(folder: Path) -> None:
    encoder = Encoder(str(folder)).double()
    together = embed(encoder, TEXTS)
    alone = torch.cat([embed(encoder, [text]) for text in TEXTS])
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-9)


def without_dropout(folder: Path, target: Path) -> Path:
    """A copy of a model whose dropout probabilities are 0."""
    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_text())
    config |= {name: 0.0 for name in config if "dropout" in name and name != "classifier_dropout"}
    (target / "config.json").write_text(json.dumps(config))
    return target


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_packed_equals_padded_transformers(
    folder: Path, tmp_path: Path, dtype: torch.dtype
) -> None:
    """Values and gradients in training mode, against transformers' own forward of each text."""
    model = without_dropout(folder, tmp_path / "model")
    encoder = Encoder(str(model)).to(dtype).train()
    # ModernBERT's own forward makes NaN of padding in float64, and is eager in float32 alone.
    exact = dtype == torch.float64
    kind = "sdpa" if exact and folder.name != "mpnet" else "eager"
    plain = AutoModel.from_pretrained(model, attn_implementation=kind).to(dtype).train()
    weights = torch.randn(len(TEXTS), 32, dtype=dtype, generator=torch.manual_seed(0))

    packed = encoder(*pack(encoder, TEXTS))
    (packed * weights).mean().backward()
    ids = ids_of(encoder, TEXTS)
    longest = max(map(len, ids))
    pad = encoder.tokenizer.pad_token_id
    padded = []
    for text in ids:
        padding = 0 if exact else longest - len(text)
        mask = torch.tensor([[1] * len(text) + [0] * padding])
        output = plain(input_ids=torch.tensor([text + [pad] * padding]), attention_mask=mask)
        padded.append(pool(output.last_hidden_state, mask.bool(), "mean"))
    expected = torch.cat(padded)
    if encoder.normalize:
        expected = torch.nn.functional.normalize(expected)
    (expected * weights).mean().backward()  # type: ignore[no-untyped-call]

    tolerance = 1e-12 if exact else 1e-6
    torch.testing.assert_close(packed, expected, rtol=tolerance, atol=tolerance)
    theirs = dict(plain.named_parameters())
    for name, parameter in encoder.backbone.named_parameters():
        torch.testing.assert_close(
            parameter.grad, theirs[name].grad, rtol=tolerance, atol=tolerance, msg=name
        )


def test_unknown_family_is_padded(tmp_path: Path) -> None:
    config = ElectraConfig(
        vocab_size=600,
        embedding_size=16,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    folder = tiny.build_plain(tmp_path / "m")
    ElectraModel(config).save_pretrained(folder)
    encoder = Encoder(str(folder))
    plain = AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = torch.cat(
            [
                plain(input_ids=torch.tensor([text])).last_hidden_state.mean(dim=1)
                for text in ids_of(encoder, TEXTS)
            ]
        )
    torch.testing.assert_close(embed(encoder, TEXTS), expected, rtol=1e-5, atol=1e-6)


def test_dropout_follows_torchs_seed(folder: Path) -> None:
    encoder = Encoder(str(folder)).train()
    batch = pack(encoder, TEXTS)

    def embeddings(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        output: torch.Tensor = encoder(*batch)
        return output

    assert torch.equal(embeddings(1), embeddings(1))
    has_dropout = any(module.p for module in encoder.modules() if isinstance(module, FastDropout))
    assert torch.equal(embeddings(1), embeddings(2)) != has_dropout


def test_bf16_is_near_float32(folder: Path) -> None:
    encoder = Encoder(str(folder))
    exact = embed(encoder, TEXTS)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = embed(encoder, TEXTS)
    assert rounded.dtype == torch.float32
    assert torch.cosine_similarity(exact, rounded).min() > 0.999


def test_recomputation_gives_the_same_gradients(folder: Path) -> None:
    """The same dropout masks are drawn again, so activations can be recomputed."""
    encoder = Encoder(str(folder)).double().train()
    batch = pack(encoder, TEXTS)
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(0)
        output = checkpoint(encoder, *batch, use_reentrant=False) if recompute else encoder(*batch)
        output.square().sum().backward()
        gradients.append([p.grad.clone() for p in encoder.parameters() if p.grad is not None])
        encoder.zero_grad()
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


def test_equals_sentence_transformers(folder: Path) -> None:
    expected = SentenceTransformer(str(folder), device="cpu").encode(TEXTS, convert_to_tensor=True)
    torch.testing.assert_close(embed(Encoder(str(folder)), TEXTS), expected, rtol=1e-5, atol=1e-6)


def test_gradients_reach_every_weight_that_is_used(folder: Path) -> None:
    encoder = Encoder(str(folder))
    encoder(*pack(encoder, TEXTS)).square().sum().backward()
    without = [name for name, p in encoder.named_parameters() if p.grad is None]
    assert without == []
    assert not any(name.startswith("backbone.pooler") for name, _ in encoder.named_parameters())


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("normalize", [True, False])
def test_settings_of_the_folder_are_taken(tmp_path: Path, pooling: str, normalize: bool) -> None:
    folder = tiny.build(tmp_path / "m", pooling=pooling, normalize=normalize, max_seq_length=21)
    encoder = Encoder(str(folder))
    assert (encoder.pooling, encoder.normalize, encoder.max_seq_length) == (pooling, normalize, 21)
    expected = SentenceTransformer(str(folder), device="cpu").encode(TEXTS, convert_to_tensor=True)
    torch.testing.assert_close(embed(encoder, TEXTS), expected, rtol=1e-5, atol=1e-6)


def test_plain_transformers_folder(tmp_path: Path) -> None:
    encoder = Encoder(str(tiny.build_plain(tmp_path / "m", "xlm-roberta")))
    assert (encoder.pooling, encoder.normalize) == ("mean", False)
    assert encoder.max_seq_length == 64  # 66 positions, the first after the padding id 1
    assert embed(encoder, ["long " * 200]).shape == (1, 32)


def test_settings_given_win(tiny_model: Path) -> None:
    encoder = Encoder(str(tiny_model), pooling="cls", normalize=False, max_seq_length=7)
    assert (encoder.pooling, encoder.normalize, encoder.max_seq_length) == ("cls", False, 7)
    assert pack(encoder, TEXTS)[1].max() == 7


@pytest.mark.parametrize(
    ("length", "message"),
    [(2, "max_seq_length: is 2, must be at least 3"), (65, "has positions for 64 tokens")],
)
def test_impossible_lengths(tiny_model: Path, length: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Encoder(str(tiny_model), max_seq_length=length)


def test_prompts(tmp_path: Path) -> None:
    folder = tiny.build(tmp_path / "m", prompts={"query": "query: ", "document": "passage: "})
    encoder = Encoder(str(folder))
    assert encoder.query_text("Why?") == "query: Why?"
    assert encoder.document_text("So.") == "passage: So."
    model = SentenceTransformer(str(folder), device="cpu")
    expected = model.encode_query(["Why?"], convert_to_tensor=True)
    torch.testing.assert_close(embed(encoder, [encoder.query_text("Why?")]), expected)
    expected = model.encode_document(["So."], convert_to_tensor=True)
    torch.testing.assert_close(embed(encoder, [encoder.document_text("So.")]), expected)


def test_groups_of_similar_length() -> None:
    assert similar_lengths([100, 80, 75, 74, 60, 10]) == [(0, 3), (3, 5), (5, 6)]
    assert similar_lengths([5]) == [(0, 1)]


def test_freezing_leaves_the_upper_layers(folder: Path) -> None:
    """The embeddings and the lowest layers, in each family; the rest is trained."""
    encoder = Encoder(str(folder))
    encoder.freeze(1)
    frozen = {name for name, weight in encoder.named_parameters() if not weight.requires_grad}
    trained = {name for name, _ in encoder.named_parameters()} - frozen
    assert any("embeddings" in name for name in frozen)
    assert any(".0." in name for name in frozen)
    assert all(".0." not in name and "embeddings." not in name for name in trained)
    assert any(".1." in name for name in trained)


def test_dropout_is_a_setting(folder: Path, tmp_path: Path) -> None:
    """Without dropout, training equals evaluation; the exported config keeps the base model's."""
    encoder = Encoder(str(folder), dropout=0.0)
    expected = embed(encoder.eval(), TEXTS)
    torch.testing.assert_close(encoder.train()(*pack(encoder, TEXTS)), expected)
    with_dropout = Encoder(str(folder), dropout=0.5).train()
    assert not torch.allclose(with_dropout(*pack(encoder, TEXTS)), expected)
    export_encoder(
        encoder, tmp_path / "out", ModelCard(base_model="tiny", embedding_dim=32, max_seq_length=48)
    )
    before, after = (
        json.loads((f / "config.json").read_text()) for f in (folder, tmp_path / "out")
    )
    assert {k: v for k, v in before.items() if "dropout" in k}.items() <= after.items()
