from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import tiny
import torch
from sentence_transformers import SentenceTransformer
from tiny import MULTILINGUAL, sample_rows
from transformers import AutoTokenizer

from embedft.cli.main import main
from embedft.encoder.encoder import Encoder
from embedft.export import onnx
from embedft.export.model_card import ModelCard
from embedft.export.sentence_transformers import export_encoder

TEXTS = [row["answer"] for path in (tiny.SAMPLE, MULTILINGUAL) for row in sample_rows(path)[:8]] + [
    "a",
    "two words",
]


def exported(folder: Path, family: str, **settings: Any) -> Path:
    """An exported model with weights that no base model has."""
    base = tiny.build(folder / "base", family, **settings)
    if family == "bert":  # as the real ones have it
        config = json.loads((base / "tokenizer_config.json").read_text())
        config["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
        (base / "tokenizer_config.json").write_text(json.dumps(config))
    encoder = Encoder(str(base))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    export_encoder(encoder, folder / "model", ModelCard("tiny", 32, 48))
    return folder / "model"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "pooling"), [("bert", "mean"), ("mpnet", "cls"), ("xlm-roberta", "mean")]
)
def test_onnx_equals_torch(
    family: str, pooling: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Pooled as the folder says, for batches of several sizes, short and cut texts."""
    model = exported(tmp_path, family, pooling=pooling)
    main(["export", f"--model={model}", "--onnx"])
    said = capfd.readouterr()
    assert said.out == f"{model}/onnx/model.onnx: written, equal to torch's numbers\n"
    assert "torchvision" not in said.err
    assert [path.name for path in (model / "onnx").iterdir()] == ["model.onnx"]
    session = onnxruntime.InferenceSession(model / "onnx" / "model.onnx")
    names = {node.name for node in session.get_inputs()}
    types = {"token_type_ids"} if family == "bert" else set()
    assert names == {"input_ids", "attention_mask"} | types
    assert [node.name for node in session.get_outputs()] == ["last_hidden_state"]
    tokenizer = AutoTokenizer.from_pretrained(model)
    expected = SentenceTransformer(str(model), device="cpu").encode(TEXTS)
    for size in (1, 3, len(TEXTS)):
        found = []
        for first in range(0, len(TEXTS), size):
            batch = tokenizer(
                TEXTS[first : first + size], padding=True, truncation=True, return_tensors="np"
            )
            (hidden,) = session.run(None, {name: batch[name] for name in names})
            mask = batch["attention_mask"][..., None]
            pooled = hidden[:, 0] if pooling == "cls" else (hidden * mask).sum(1) / mask.sum(1)
            found.append(pooled / np.linalg.norm(pooled, axis=1, keepdims=True))
        np.testing.assert_allclose(np.concatenate(found), expected, atol=1e-4)


@pytest.mark.slow
def test_a_wrong_file_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With an impossible tolerance: the folder does not change, and an existing file is kept."""
    model = exported(tmp_path, "distilbert")
    monkeypatch.setattr(onnx, "TOLERANCE", -1.0)
    with pytest.raises(SystemExit) as raised:
        main(["export", f"--model={model}", "--onnx"])
    assert raised.value.code == 1
    assert "the ONNX file differs from torch by" in capsys.readouterr().err
    assert list(model.glob("onnx/*")) == []
    (model / "onnx" / "model.onnx").write_text("the user's")
    with pytest.raises(SystemExit):
        main(["export", f"--model={model}", "--onnx"])
    assert "exists already; give --overwrite" in capsys.readouterr().err
    assert (model / "onnx" / "model.onnx").read_text() == "the user's"


def test_without_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnxscript" else real(name)
    )
    flags = [f"--ckpt_path={tmp_path}/a.ckpt", f"--output_dir={tmp_path}/out", "--onnx"]
    with pytest.raises(SystemExit):
        main(["export", *flags])
    said = capsys.readouterr().err
    assert "--onnx needs onnxscript; type: pip install 'embedft[onnx]'" in said
