from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from runs import FinishedRun
from sentence_transformers import SentenceTransformer
from tiny import FAMILIES, MULTILINGUAL, sample_rows
from transformers import AutoModel, AutoTokenizer

from embedft.cli.main import main
from embedft.encoder.checkpoint import read_checkpoint
from embedft.encoder.encoder import Encoder
from embedft.errors import InputError
from embedft.export.model_card import ModelCard
from embedft.export.sentence_transformers import export_encoder

TEXTS = [row["answer"] for path in (tiny.SAMPLE, MULTILINGUAL) for row in sample_rows(path)[:12]]


def tuned(folder: Path) -> Encoder:
    """An encoder whose weights differ from its base model's."""
    encoder = Encoder(str(folder))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return encoder.eval()


def embed(encoder: Encoder, texts: list[str]) -> torch.Tensor:
    ids = encoder.tokenizer(texts, truncation=True, max_length=encoder.max_seq_length)["input_ids"]
    flat = torch.tensor([token for text in ids for token in text])
    with torch.no_grad():
        embeddings: torch.Tensor = encoder(flat, torch.tensor([len(text) for text in ids]))
    return embeddings


CARD = ModelCard(base_model="tiny", embedding_dim=32, max_seq_length=48)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("pooling", "normalize"), [("mean", True), ("cls", False)])
def test_loads_everywhere_with_the_same_embeddings(
    tmp_path: Path, family: str, pooling: str, normalize: bool
) -> None:
    encoder = tuned(tiny.build(tmp_path / "base", family, pooling=pooling, normalize=normalize))
    expected = embed(encoder, TEXTS)
    out = tmp_path / "out"
    export_encoder(encoder, out, CARD)
    model = SentenceTransformer(str(out), device="cpu")
    assert model.max_seq_length == 48
    same: Any = {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(model.encode(TEXTS, convert_to_tensor=True), expected, **same)
    torch.testing.assert_close(embed(Encoder(str(out)).eval(), TEXTS), expected, **same)

    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer.model_max_length == 48
    saved = json.loads((out / "tokenizer_config.json").read_text())
    assert saved["tokenizer_class"] != "TokenizersBackend"  # which transformers 4 does not know
    plain, info = AutoModel.from_pretrained(out, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    batch = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
    batch.pop("token_type_ids", None)
    with torch.no_grad():
        hidden = plain.eval()(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    pooled = hidden[:, 0] if pooling == "cls" else (hidden * mask).sum(1) / mask.sum(1)
    if normalize:
        pooled = torch.nn.functional.normalize(pooled, dim=-1)
    torch.testing.assert_close(pooled, expected, **same)


def test_layout_of_release_2_2(tmp_path: Path) -> None:
    prompts = {"query": "query: ", "document": ""}
    out = tmp_path / "out"
    encoder = tuned(tiny.build(tmp_path / "base", prompts=prompts))
    export_encoder(encoder, out, CARD)

    def read(name: str) -> object:
        return json.loads((out / name).read_text())

    assert [module["type"] for module in json.loads((out / "modules.json").read_text())] == [
        "sentence_transformers.models.Transformer",
        "sentence_transformers.models.Pooling",
        "sentence_transformers.models.Normalize",
    ]
    assert read("sentence_bert_config.json") == {"max_seq_length": 48, "do_lower_case": False}
    assert read("1_Pooling/config.json") == {
        "word_embedding_dimension": 32,
        "pooling_mode_cls_token": False,
        "pooling_mode_mean_tokens": True,
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
    }
    assert read("2_Normalize/config.json") == {}
    model = SentenceTransformer(str(out), device="cpu")
    assert model.prompts["query"] == "query: "
    assert "encode_query" not in (out / "README.md").read_text()  # CARD names no prompts
    export_encoder(encoder, out, replace(CARD, prompts=encoder.base.prompts))
    assert "encode_query" in (out / "README.md").read_text()


def test_an_export_replaces_an_earlier_one_in_one_piece(tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_encoder(tuned(tiny_model), out, CARD)
    (out / "stale").write_text("from before")
    export_encoder(tuned(tiny_model), out, CARD)
    assert not (out / "stale").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    modes = {path.stat().st_mode & 0o777 for path in out.rglob("*") if path.is_file()}
    (tmp_path / "mine").write_text("")
    assert modes == {(tmp_path / "mine").stat().st_mode & 0o777}


def test_a_failed_export_leaves_the_earlier_one(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    export_encoder(tuned(tiny_model), out, CARD)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    encoder = tuned(tiny_model)
    monkeypatch.setattr(encoder, "tokenizer", None)
    monkeypatch.setattr(encoder, "max_seq_length", object())  # can't be written as JSON
    with pytest.raises(TypeError):
        export_encoder(encoder, out, CARD)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_export_command(run_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run_copy
    target = tmp_path / "exported"
    args = [
        "export",
        "--ckpt_path",
        str(out / "checkpoints" / "last.ckpt"),
        "--output_dir",
        str(target),
    ]
    main(args)
    assert f"{target}: written" in capsys.readouterr().out
    mine = SentenceTransformer(str(target), device="cpu").encode(TEXTS, convert_to_tensor=True)
    last = SentenceTransformer(str(out / "final_model"), device="cpu").encode(
        TEXTS, convert_to_tensor=True
    )  # best_model may be the base model
    assert torch.equal(mine, last)
    assert "## Retrieval quality" in (target / "README.md").read_text()

    with pytest.raises(SystemExit) as error:
        main(args)
    assert error.value.code == 2
    assert "exists already; give another --output_dir or --overwrite" in capsys.readouterr().err
    main([*args, "--overwrite"])

    folders = {
        out: "is not an exported model, and --overwrite would delete it",
        tmp_path: "is not an exported model, and --overwrite would delete it",
        out / "checkpoints": "is not an exported model",
        Path(
            read_checkpoint(Path(args[2]))["embedft_hyper_parameters"]["base_model"]
        ): "is the base",
    }
    for folder, said in folders.items():
        before = sorted(folder.rglob("*"))
        with pytest.raises(SystemExit) as error:
            main([*args[:3], "--output_dir", str(folder), "--overwrite"])
        assert error.value.code == 2
        assert f"{folder}: {said}" in capsys.readouterr().err
        assert sorted(folder.rglob("*")) == before


def test_export_into_a_link(finished_run: FinishedRun, tmp_path: Path) -> None:
    """The folder that it leads to is written."""
    out = finished_run.folder
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    args = ["export", f"--ckpt_path={out}/checkpoints/last.ckpt", f"--output_dir={tmp_path}/link"]
    main(args)
    main([*args, "--overwrite"])
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "modules.json").is_file()
    assert not list(tmp_path.glob(".*"))


def test_unreadable_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such checkpoint"):
        read_checkpoint(tmp_path / "x.ckpt")
    path = tmp_path / "y.ckpt"
    path.write_bytes(b"garbage")
    with pytest.raises(InputError, match="not a readable checkpoint"):
        read_checkpoint(path)
    torch.save({"state_dict": {}}, path)
    with pytest.raises(InputError, match="is not a checkpoint of embedft"):
        read_checkpoint(path)
    torch.save({"x": Path("a")}, path)  # would run code if it were unpickled
    with pytest.raises(InputError, match="not a readable checkpoint"):
        read_checkpoint(path)


def test_checkpoint_of_another_architecture(
    finished_run: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = finished_run.folder
    other = tiny.build(tmp_path / "other", "distilbert")
    with pytest.raises(SystemExit):
        main(
            [
                "export",
                f"--ckpt_path={out}/checkpoints/last.ckpt",
                f"--base_model={other}",
                f"--output_dir={tmp_path}/x",
            ]
        )
    assert "its weights do not fit base model" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
