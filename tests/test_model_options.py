"""Runs with Matryoshka dimensions, prompts, frozen layers and adapters."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from tiny import sample_rows

from embedft.cli.main import main
from embedft.encoder.checkpoint import read_checkpoint
from embedft.encoder.encoder import Encoder
from embedft.evaluation.metrics import RetrievalMetrics, query_values
from embedft.evaluation.retrieval import rank_documents
from embedft.export.model_card import ModelCard

Fit = Callable[..., Path]
CARD = ModelCard(base_model="tiny", embedding_dim=32, max_seq_length=48)
TEXTS = [row["answer"] for row in sample_rows()[:12]]


def embed(encoder: Encoder, texts: list[str]) -> torch.Tensor:
    ids = encoder.tokenizer(texts, truncation=True, max_length=encoder.max_seq_length)["input_ids"]
    flat = torch.tensor([token for text in ids for token in text])
    with torch.no_grad():
        embeddings: torch.Tensor = encoder(flat, torch.tensor([len(text) for text in ids]))
    return embeddings


def metrics_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return content


# Matryoshka.


def test_first_dimensions_are_measured(
    fit: Fit, pairs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the metrics of the exported model as sentence-transformers truncates it."""
    folder = fit("--model.matryoshka_dims=[32,8]", "--model.matryoshka_weights=[1,0.5]")
    said = capsys.readouterr().out
    assert "| ndcg@10/dim_8 |" in said
    assert "dim_32" not in said
    rows = sample_rows()[:60]
    held_out = {
        json.loads(line)["id"]
        for line in (folder / "metrics_by_question.jsonl").read_text().splitlines()
    }
    corpus = list(dict.fromkeys(row["answer"] for row in rows))
    queries = [row for row in rows if row["id"] in held_out]
    model = SentenceTransformer(str(folder / "final_model"), device="cpu", truncate_dim=8)
    vectors = [
        model.encode(texts, convert_to_tensor=True)
        for texts in ([row["question"] for row in queries], corpus)
    ]
    assert vectors[0].shape[1] == 8
    metrics = RetrievalMetrics()
    relevant = [np.array([corpus.index(row["answer"])]) for row in queries]
    for query in rank_documents(vectors[0], vectors[1], relevant):
        metrics.update(query_values(query.ranks))
    measured = metrics_of(folder)
    for name, value in metrics.compute().items():
        assert measured["last"][f"{name}/dim_8"] == pytest.approx(value, abs=1e-6)
        assert f"{name}/dim_8" in measured["base"]
    lines = (folder / "training_metrics.jsonl").read_text()
    assert '"val/ndcg@10/dim_8": ' in lines


def test_matryoshka_changes_the_training(fit: Fit, tmp_path: Path) -> None:
    """Only the full dimension is the plain loss; a second dimension changes the training."""
    plain = fit("--epochs=1", "--model.loss.scale=10")
    whole = fit(
        "--epochs=1",
        "--model.loss.scale=10",
        "--model.matryoshka_dims=[32]",
        output_dir=tmp_path / "b",
    )
    other = fit(
        "--epochs=1",
        "--model.loss.scale=10",
        "--model.matryoshka_dims=[32,8]",
        output_dir=tmp_path / "c",
    )
    weights = [
        load_file(out / "final_model" / "model.safetensors") for out in (plain, whole, other)
    ]
    name = "encoder.layer.0.output.dense.weight"
    torch.testing.assert_close(weights[1][name], weights[0][name], rtol=0, atol=1e-4)
    assert (weights[2][name] - weights[0][name]).abs().max() > 1e-3


# Prompts.


def test_prompts_are_those_of_the_export(fit: Fit, pairs: Path, tmp_path: Path) -> None:
    """Evaluation, export and prediction encode as sentence-transformers does with the prompts."""
    folder = fit("--model.query_prompt=query: ", "--model.document_prompt=passage: ")
    saved = json.loads((folder / "best_model" / "config_sentence_transformers.json").read_text())
    assert saved["prompts"] == {"query": "query: ", "document": "passage: "}
    model = SentenceTransformer(str(folder / "final_model"), device="cpu")
    rows = sample_rows()[:60]
    texts = {"question": [r["question"] for r in rows], "answer": [r["answer"] for r in rows]}
    expected = {
        "question": model.encode(texts["question"], prompt_name="query"),
        "answer": model.encode(texts["answer"], prompt_name="document"),
    }
    assert np.abs(model.encode(texts["question"]) - expected["question"]).max() > 1e-3
    flags = [f"--input_jsonl={pairs}", "--precision=32-true", "--trainer.enable_progress_bar=false"]
    main(["predict", *flags, f"--base_model={folder}/final_model", f"--output_dir={tmp_path}/emb"])
    for name, vectors in expected.items():
        got = np.load(tmp_path / "emb" / f"{name}_embeddings.npy")
        np.testing.assert_allclose(got, vectors, atol=1e-5)
    out = tmp_path / "exported"
    main(["export", f"--ckpt_path={folder}/checkpoints/last.ckpt", f"--output_dir={out}"])
    again = SentenceTransformer(str(out), device="cpu").encode(
        texts["question"], prompt_name="query"
    )
    np.testing.assert_allclose(again, expected["question"], atol=1e-6)
    # The exported folder has the metrics of the last weights.
    main(
        [
            "test",
            *flags,
            f"--base_model={out}",
            "--train_split=0.8",
            "--trainer.logger=CSVLogger",
            f"--trainer.logger.save_dir={tmp_path}",
        ]
    )
    (table,) = tmp_path.rglob("metrics.csv")
    header, values = [line.split(",") for line in table.read_text().splitlines()]
    measured = dict(zip(header, values, strict=True))
    last = metrics_of(folder)["last"]
    assert float(measured["test/ndcg@10"]) == pytest.approx(last["ndcg@10"], abs=1e-6)


# Freezing.


def test_frozen_weights_do_not_change(fit: Fit, tiny_model: Path) -> None:
    folder = fit("--model.freeze_layers=1", "--model.weight_decay=0.1", "--model.chunk_size=3")
    before = load_file(tiny_model / "model.safetensors")
    after = load_file(folder / "final_model" / "model.safetensors")
    frozen = {name for name in before if name.startswith(("embeddings.", "encoder.layer.0."))}
    assert len(frozen) == 21
    for name, weight in before.items():
        if not name.startswith("pooler."):
            assert torch.equal(weight, after[name]) == (name in frozen), name
    state = read_checkpoint(folder / "checkpoints" / "last.ckpt")["optimizer_states"][0]["state"]
    assert len(state) == 16  # only those of the second layer


def test_too_many_frozen_layers(fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        fit("--model.freeze_layers=2")
    assert error.value.code == 2
    assert (
        "freeze_layers: is 2, must be from 0 (only the embeddings) to 1: "
        in capsys.readouterr().err
    )


# Dropout.


def test_dropout_zero_equals_a_base_model_without_dropout(
    fit: Fit, without_dropout: list[str], tmp_path: Path
) -> None:
    folders = [
        fit(*flags, output_dir=tmp_path / name)
        for name, flags in (("option", ["--model.dropout=0"]), ("folder", without_dropout))
    ]
    weights = [load_file(folder / "final_model" / "model.safetensors") for folder in folders]
    torch.testing.assert_close(*weights, rtol=0, atol=0)


@pytest.mark.parametrize("value", ["-0.1", "1"])
def test_dropout_out_of_range(fit: Fit, capsys: pytest.CaptureFixture[str], value: str) -> None:
    with pytest.raises(SystemExit):
        fit(f"--model.dropout={value}")
    said = capsys.readouterr().err
    assert "dropout: is " in said
    assert "must be from 0 to below 1" in said


# Adapters.


LORA = ["--model.lora.r=4", "--model.lora.lora_dropout=0.1", "--learning_rate=1e-2"]


def test_adapters_from_fit_to_export(
    fit: Fit, tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fit(*LORA, "--model.base_share=0.4")
    weights = load_file(folder / "final_model" / "model.safetensors")
    before = load_file(tiny_model / "model.safetensors")
    assert weights.keys() == before.keys()
    assert torch.equal(
        weights["embeddings.word_embeddings.weight"], before["embeddings.word_embeddings.weight"]
    )
    name = "encoder.layer.1.output.dense.weight"
    assert not torch.equal(weights[name], before[name])
    last = folder / "checkpoints" / "last.ckpt"
    assert len(read_checkpoint(last)["optimizer_states"][0]["state"]) == 2 * 2 * 6
    main(["export", f"--ckpt_path={last}", f"--output_dir={tmp_path}/exported"])
    assert all(
        torch.equal(weight, weights[key])
        for key, weight in load_file(tmp_path / "exported" / "model.safetensors").items()
    )
    capsys.readouterr()
    with pytest.raises(SystemExit):
        fit("--ckpt_path=last")
    assert "it was trained with lora {'r': 4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model.lora.rank=4"], "lora: there is no setting rank. Use r, lora_alpha"),
        (["--model.lora.r=0"], "lora: r is 0, must be from 1 to 32, the size of a layer"),
        (["--model.lora.target_modules=nowhere"], "lora: Target modules"),
        (
            ["--model.lora.r=4", "--model.freeze_layers=0"],
            "freeze_layers: lora already freezes the whole base model",
        ),
        (
            ["--model.matryoshka_dims=[64]"],
            "matryoshka_dims: has 64, but the model has 32 dimensions",
        ),
        (["--model.matryoshka_dims=[]"], "matryoshka_dims: is [], must be distinct numbers"),
        (["--model.matryoshka_weights=[1]"], "matryoshka_weights: needs matryoshka_dims"),
    ],
)
def test_refused(
    fit: Fit, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as error:
        fit(*flags)
    assert error.value.code == 2
    assert message in (said := capsys.readouterr().err)
    assert said.count("\n") == 1


def test_without_peft(
    fit: Fit, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(SystemExit):
        fit(*LORA)
    assert "pip install 'embedft[lora]'" in capsys.readouterr().err
