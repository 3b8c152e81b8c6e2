"""The files of ``predict``: the embedding and the id of each row."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import fails
from runs import FinishedRun
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from tiny import sample_rows, write_jsonl
from transformers import AutoTokenizer

from embedft.cli.main import main


def test_predict(fit_flags: list[str], tiny_model: Path, pairs: Path, tmp_path: Path) -> None:
    rows = [*sample_rows()[:20], sample_rows()[0] | {"id": "again"}]
    write_jsonl(pairs, rows)
    main(["predict", f"--output_dir={tmp_path}/emb", *fit_flags])
    ids = [json.loads(line) for line in (tmp_path / "emb" / "ids.jsonl").read_text().splitlines()]
    assert [(entry["id"], entry["line"]) for entry in ids] == [
        (str(row["id"]), i) for i, row in enumerate(rows, 1)
    ]
    model = SentenceTransformer(str(tiny_model), device="cpu")
    for name in ("question", "answer"):
        table = np.load(tmp_path / "emb" / f"{name}_embeddings.npy")
        assert (table.shape, table.dtype) == ((21, 32), np.float32)
        expected = model.encode([row[name] for row in rows])
        np.testing.assert_allclose(table, expected, rtol=1e-5, atol=1e-6)


def test_predict_with_a_checkpoint(
    finished_run: FinishedRun, fit_flags: list[str], tmp_path: Path
) -> None:
    out = finished_run.folder
    emb = tmp_path / "emb"
    main(["predict", f"--output_dir={emb}", *fit_flags, f"--ckpt_path={out}/checkpoints/last.ckpt"])
    table = np.load(emb / "question_embeddings.npy")
    model = SentenceTransformer(str(out / "final_model"), device="cpu")
    expected = model.encode([row["question"] for row in sample_rows()[:60]])
    np.testing.assert_allclose(table, expected, rtol=1e-5, atol=1e-6)


def test_predict_names_the_row_of_an_embedding_that_is_not_finite(
    fit_flags: list[str],
    tiny_model: Path,
    pairs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = Path(shutil.copytree(tiny_model, tmp_path / "broken"))
    weights = load_file(folder / "model.safetensors")
    unknown = AutoTokenizer.from_pretrained(folder).unk_token_id
    weights["embeddings.word_embeddings.weight"][unknown] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    rows = [{"question": "water", "answer": "the"}] * 2 + [{"question": "the", "answer": "☃"}]
    write_jsonl(pairs, rows)
    with pytest.raises(SystemExit):
        main(["predict", f"--output_dir={tmp_path}/emb", *fit_flags, f"--base_model={folder}"])
    assert f"{pairs}:3: answer: its embedding is NaN or infinite." in capsys.readouterr().err
    assert not (tmp_path / "emb" / "question_embeddings.npy").exists()


def test_nothing_is_replaced_unasked(
    run_copy: Path, fit_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither earlier predictions nor anything in the folder of a run."""
    before = set(run_copy.rglob("*"))
    args = ["predict", f"--output_dir={run_copy}", *fit_flags]
    main(args)
    assert set(run_copy.rglob("*")) == before
    written = tmp_path / "out-predictions" / "question_embeddings.npy"
    assert np.load(written).shape == (60, 32)
    said = fails(args, capsys)
    assert said == f"{written}: exists already; give another --output_dir or --overwrite"
    main([*args, "--overwrite"])
