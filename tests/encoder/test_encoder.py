from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
from sentence_transformers import SentenceTransformer
from tiny import FAMILIES, MULTILINGUAL, sample_rows

from embedft.data.tokens import tokenize
from embedft.encoder.encoder import Encoder, _groups
from embedft.encoder.pooling import pool
from embedft.errors import InputError

TEXTS = [
    "x",
    *[row["question"] for row in sample_rows(MULTILINGUAL)],
    *[row["answer"] for row in sample_rows()[:8]],
    "long " * 200,
]


def embed(encoder: Encoder, texts: list[str]) -> torch.Tensor:
    store = tokenize(texts, encoder.tokenizer, encoder.max_seq_length, None)
    encoder.eval()
    with torch.no_grad():
        embeddings: torch.Tensor = encoder(*store.pack(torch.arange(len(texts)).numpy()))
    return embeddings


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build(tmp_path_factory.mktemp("family") / request.param, request.param)


def test_packed_equals_one_by_one(folder: Path) -> None:
    encoder = Encoder(str(folder)).double()
    together = embed(encoder, TEXTS)
    alone = torch.cat([embed(encoder, [text]) for text in TEXTS])
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-9)


def test_equals_sentence_transformers(folder: Path) -> None:
    expected = SentenceTransformer(str(folder), device="cpu").encode(TEXTS, convert_to_tensor=True)
    torch.testing.assert_close(embed(Encoder(str(folder)), TEXTS), expected, rtol=1e-5, atol=1e-6)


def test_gradients_reach_every_weight_that_is_used(folder: Path) -> None:
    encoder = Encoder(str(folder))
    store = tokenize(TEXTS, encoder.tokenizer, encoder.max_seq_length, None)
    encoder(*store.pack(torch.arange(len(TEXTS)).numpy())).square().sum().backward()
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
    store = tokenize(TEXTS, encoder.tokenizer, encoder.max_seq_length, None)
    assert store.lengths.max() == 7


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


def test_groups_of_like_length() -> None:
    assert _groups([100, 80, 75, 74, 60, 10]) == [(0, 3), (3, 5), (5, 6)]
    assert _groups([5]) == [(0, 1)]


def test_pooling_by_hand() -> None:
    hidden = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [99.0, 99.0]]])
    mask = torch.tensor([[True, True, False]])
    assert pool(hidden, mask, "mean").tolist() == [[2.0, 3.0]]
    assert pool(hidden, mask, "cls").tolist() == [[1.0, 2.0]]
    assert pool(hidden.bfloat16(), mask, "mean").dtype == torch.float32
    assert pool(hidden.double(), mask, "mean").dtype == torch.float64
