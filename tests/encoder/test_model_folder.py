"""Features of a model's folder: embedded as sentence-transformers does, or refused by name."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import (
    Dense,
    Dropout,
    LayerNorm,
    Normalize,
)
from tiny import sample_rows, write_jsonl
from torch import nn

from embedft.data.load import read_settings
from embedft.encoder.encoder import Encoder
from embedft.errors import InputError
from embedft.export.model_card import ModelCard
from embedft.export.sentence_transformers import export_encoder
from embedft.inference.embed import embed_distinct, one_device_trainer
from embedft.table.table import read_table

ROWS = [
    *({"question": row["question"], "answer": row["answer"]} for row in sample_rows()[:8]),
    {"question": "WHY Upper CASE?", "answer": "short. " * 30 + "the end of a long text"},
]


def edit(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text()) if path.is_file() else {}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content | changes))


def transformer(folder: Path, **settings: Any) -> None:
    edit(folder / "sentence_bert_config.json", **settings)


def of_model(folder: Path, **settings: Any) -> None:
    edit(folder / "config_sentence_transformers.json", **settings)


def pooling(folder: Path, **settings: Any) -> None:
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": 32} | settings)
    )


def other_name(folder: Path) -> None:
    (folder / "sentence_bert_config.json").rename(folder / "sentence_roberta_config.json")
    edit(folder / "sentence_roberta_config.json", max_seq_length=9)


class Swish(nn.SiLU):
    """A module of somebody's own."""


def with_modules(
    folder: Path, *modules: nn.Module, normalize: bool = True, **settings: Any
) -> None:
    """Rewrites a folder by sentence-transformers, with modules after the pooling."""
    torch.manual_seed(1)
    model = SentenceTransformer(str(folder), device="cpu")
    parts = [model[0], model[1], *modules, *([model[2]] if normalize else [])]
    SentenceTransformer(modules=parts, device="cpu").save(str(folder))
    of_model(folder, **settings)


def trained_norm() -> LayerNorm:
    norm = LayerNorm(32)
    nn.init.normal_(norm.norm.weight)
    return norm


def with_adapters(folder: Path, *, beside: bool) -> None:
    """Adapters as peft saves them, without or beside the base model's own files."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel

    base = folder.with_name("base")
    shutil.copytree(folder, base)
    if not beside:
        (folder / "config.json").unlink()
        (folder / "model.safetensors").unlink()
    torch.manual_seed(2)
    model = get_peft_model(AutoModel.from_pretrained(base), LoraConfig(target_modules="all-linear"))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.1)
    model.save_pretrained(str(folder))


def family(folder: Path, name: str, **settings: Any) -> None:
    """A backbone of another family, and the longest texts that it has positions for."""
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(3)
    config = AutoConfig.for_model(
        name,
        vocab_size=600,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=40,
        pad_token_id=1,
        **settings,
    )
    AutoModel.from_config(config).save_pretrained(folder)  # type: ignore[no-untyped-call]
    edit(folder / "tokenizer_config.json", model_max_length=1000)
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 38}')


FEATURES: dict[str, Callable[[Path], object]] = {
    "as sentence-transformers 6 saves it": with_modules,
    "settings under another name": other_name,
    "lower-casing": lambda f: transformer(f, do_lower_case=True),
    "options of the tokenizer": lambda f: transformer(
        f, processor_kwargs={"truncation_side": "left"}
    ),
    "length by the tokenizer": lambda f: transformer(f, tokenizer_args={"model_max_length": 7}),
    "length above the tokenizer's": lambda f: edit(f / "tokenizer_config.json", model_max_length=9),
    "truncation on the left": lambda f: edit(f / "tokenizer_config.json", truncation_side="left"),
    "settings without effect": lambda f: transformer(
        f, model_args={"torch_dtype": "float32"}, config_kwargs={}, unpad_inputs=False
    ),
    "pooling by its dimension alone": pooling,
    "max pooling": lambda f: pooling(f, pooling_mode_max_tokens=True),
    "last-token pooling": lambda f: pooling(f, pooling_mode="lasttoken"),
    "dense": lambda f: with_modules(f, Dense(32, 24)),
    "dense, without length": lambda f: with_modules(
        f, Dense(32, 8, bias=False, activation_function=nn.GELU()), Dense(8, 40), normalize=False
    ),
    "dense with a residual": lambda f: with_modules(
        f, Dense(32, 8, activation_function=None, use_residual=True), Dense(8, 8, use_residual=True)
    ),
    "norm and dropout": lambda f: with_modules(f, trained_norm(), Dropout(0.5)),
    "dot product": lambda f: of_model(f, similarity_fn_name="dot"),
    "truncation": lambda f: of_model(f, truncate_dim=12),
    "prompts": lambda f: of_model(f, prompts={"query": "what is ", "document": "this is "}),
    "positions after the padding id": lambda f: family(f, "data2vec-text"),
    "a pooler that is called unasked": lambda f: family(f, "squeezebert", embedding_size=32),
    "adapters": lambda f: with_adapters(f, beside=False),
    "adapters beside weights": lambda f: with_adapters(f, beside=True),
}

Arrays = tuple[NDArray[np.float32], NDArray[np.float32]]


def predicted(encoder: Encoder, folder: Path) -> Arrays:
    """Embeddings of the questions and answers, read from a file as ``predict`` does."""
    path = write_jsonl(folder.with_name("rows.jsonl"), ROWS)
    settings = read_settings(encoder, "answer", context_required=False)
    table = read_table(str(path), settings, folder.with_name("cache"), "error")
    assert table.answer is not None
    texts = np.concatenate([table.question, table.answer])
    trainer = one_device_trainer("cpu", "32-true")
    embeddings = embed_distinct(encoder, table.tokens, texts, 4, trainer, "")
    return embeddings.lookup(table.question), embeddings.lookup(table.answer)


def expected(folder: Path) -> Arrays:
    model = SentenceTransformer(str(folder), device="cpu")
    questions, answers = ([row[key] for row in ROWS] for key in ("question", "answer"))
    return model.encode_query(questions), model.encode_document(answers)


def train_and_export(encoder: Encoder, folder: Path) -> None:
    """Two steps on all weights, then the folder that a fit writes."""
    encoder.train()
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.05)
    target = torch.randn(3, encoder.embedding_dim)
    for _ in range(2):
        ids_T, lengths_B = torch.arange(5, 35), torch.tensor([10, 15, 5])
        loss = (encoder(ids_T, lengths_B) - target).square().sum()
        loss.backward()
        assert all(weight.grad is not None for weight in encoder.parameters())
        optimizer.step()
        optimizer.zero_grad()
    card = ModelCard("m", encoder.embedding_dim, encoder.max_seq_length)
    export_encoder(encoder, folder, card)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Arrays]:
    """A folder without special features, to whose tokenizer case matters, and its embeddings."""
    folder = tiny.build(tmp_path_factory.mktemp("plain") / "m", max_seq_length=20)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["normalizer"]["lowercase"] = False
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return folder, predicted(Encoder(str(folder)), folder)


WITHOUT_EFFECT = (
    "as sentence-transformers 6 saves it",
    "settings without effect",
    "dot product",
    "pooling by its dimension alone",
    "length above the tokenizer's",
)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing")  # peft asks for it
@pytest.mark.parametrize("feature", FEATURES)
def test_equals_sentence_transformers_before_and_after_training(
    tmp_path: Path, plain: tuple[Path, Arrays], feature: str
) -> None:
    folder = Path(shutil.copytree(plain[0], tmp_path / "m"))
    FEATURES[feature](folder)
    encoder = Encoder(str(folder))
    base = predicted(encoder, folder)
    np.testing.assert_allclose(base, expected(folder), atol=1e-5)
    changes = base[1].shape != plain[1][1].shape or not np.allclose(base, plain[1], atol=1e-4)
    assert changes == (feature not in WITHOUT_EFFECT)
    train_and_export(encoder, tmp_path / "tuned")
    tuned = predicted(Encoder(str(tmp_path / "tuned")), folder)
    np.testing.assert_allclose(tuned, expected(tmp_path / "tuned"), atol=1e-5)
    assert not np.allclose(tuned, base, atol=1e-3)
    encoder.restore_base_weights()
    np.testing.assert_allclose(predicted(encoder, folder), base, atol=1e-6)
    exported = SentenceTransformer(str(tmp_path / "tuned"), device="cpu")
    assert exported.similarity_fn_name == encoder.base.similarity


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a module of its own": (
        lambda f: (f / "modules.json").write_text(
            '[{"type": "custom_st.Transformer", "path": ""}]'
        ),
        "its module custom_st.Transformer is not supported (only Transformer, Pooling, Dense, "
        "LayerNorm, Dropout, Normalize of sentence-transformers)",
    ),
    "an order of modules": (
        lambda f: with_modules(f, Normalize(), Dense(32, 8), normalize=False),
        "its modules Transformer, Pooling, Normalize, Dense are not supported in this order (only "
        "Transformer, Pooling, then Dense, LayerNorm, Dropout, and Normalize at the end)",
    ),
    "padding that shifts positions": (
        lambda f: edit(f / "tokenizer_config.json", padding_side="left"),
        "its tokenizer pads on the left, which changes this model's embeddings. "
        'Set "padding_side": "right" in its tokenizer_config.json',
    ),
    "embeddings that depend on padding": (
        lambda f: family(f, "fnet"),
        "padding changes its embeddings, so they depend on the other texts of a batch",
    ),
    "a family that needs more than text": (
        lambda f: family(f, "bros"),
        "it can't embed a text: You have to specify bbox",
    ),
    "a pooling": (
        lambda f: pooling(f, pooling_mode_weightedmean_tokens=True),
        "its pooling weightedmean is not supported (only mean, cls, max, lasttoken)",
    ),
    "an unknown setting of the pooling": (
        lambda f: pooling(f, layers=3),
        "its Pooling has the unknown setting layers",
    ),
    "an unknown setting of the Transformer": (
        lambda f: transformer(f, layers=3),
        "its Transformer has the unknown setting layers",
    ),
    "settings of the Transformer": (
        lambda f: transformer(f, query_length=8),
        "its Transformer has query_length 8, which is not supported",
    ),
    "settings of the model": (
        lambda f: transformer(f, model_args={"num_hidden_layers": 1}),
        "its Transformer has num_hidden_layers in model_kwargs, which is not supported",
    ),
    "dot product of embeddings of any length": (
        lambda f: with_modules(f, normalize=False, similarity_fn_name="dot"),
        "compares embeddings by dot, embedft by cosine. To train it for cosine, give "
        "--model.normalize true",
    ),
    "a kind of model": (
        lambda f: of_model(f, model_type="SparseEncoder"),
        "it is a SparseEncoder model, only SentenceTransformer is supported",
    ),
    "a prompt that is missing": (
        lambda f: of_model(f, default_prompt_name="web"),
        "its default_prompt_name web is not among its prompts",
    ),
    "an activation": (
        lambda f: with_modules(f, Dense(32, 8, activation_function=Swish())),
        "its Dense has the activation tests.encoder.test_model_folder.Swish, which is not supported",
    ),
    "pickled weights": (
        lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
        "and pytorch_model.bin is not read: loading it could run code. If you trust it, convert it "
        "by SentenceTransformer(FOLDER).save(NEW_FOLDER)",
    ),
}


@pytest.mark.parametrize("feature", REFUSED)
def test_refused_by_name(tmp_path: Path, plain: tuple[Path, Arrays], feature: str) -> None:
    folder = Path(shutil.copytree(plain[0], tmp_path / "m"))
    change, message = REFUSED[feature]
    change(folder)
    with pytest.raises(InputError, match=re.escape(message)) as error:
        Encoder(str(folder))
    assert str(error.value).startswith(f"base_model {folder}: ")
    assert "\n" not in str(error.value)
    if feature.startswith("dot product"):
        assert Encoder(str(folder), normalize=True).base.similarity == "dot"


def test_unknown_settings_that_change_nothing_are_named(
    tmp_path: Path, plain: tuple[Path, Arrays], caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path(shutil.copytree(plain[0], tmp_path / "m"))
    of_model(folder, owner="me")
    Encoder(str(folder))
    assert "config_sentence_transformers.json has owner, which neither" in caplog.text


@pytest.mark.parametrize(
    ("prompts", "default", "query", "document"),
    [
        ({"query": "q: ", "passage": "p: "}, None, "q: ", "p: "),
        ({"web": "w: "}, "web", "w: ", "w: "),
        ({"query": "q: ", "document": ""}, "query", "q: ", ""),
    ],
)
def test_exported_prompts_are_found_by_task(
    tmp_path: Path,
    plain: tuple[Path, Arrays],
    prompts: dict[str, str],
    default: str | None,
    query: str,
    document: str,
) -> None:
    """encode_query and encode_document know neither ``passage`` nor the default prompt."""
    folder = Path(shutil.copytree(plain[0], tmp_path / "m"))
    of_model(folder, prompts=prompts, default_prompt_name=default)
    encoder = Encoder(str(folder))
    assert (encoder.query_text(""), encoder.document_text("")) == (query, document)
    base = predicted(encoder, folder)
    model = SentenceTransformer(str(folder), device="cpu")
    for found, key, prompt in zip(base, ROWS[0], (query, document), strict=True):
        texts = [row[key] for row in ROWS]
        np.testing.assert_allclose(found, model.encode(texts, prompt=prompt), atol=1e-5)
    train_and_export(encoder, tmp_path / "tuned")
    tuned = predicted(Encoder(str(tmp_path / "tuned")), folder)
    np.testing.assert_allclose(tuned, expected(tmp_path / "tuned"), atol=1e-5)
