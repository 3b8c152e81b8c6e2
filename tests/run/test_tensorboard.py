"""What the loggers of a run get."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import sample_rows, write_jsonl

HOSTILE = "<script>alert('ü')</script> & \u202e\t\"why\"?"


def test_tensorboard(
    fit: Callable[..., Path], pairs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Gain, hyperparameters with final metrics, text, layout, and the projector's files."""
    write_jsonl(
        pairs, [row | {"question": f"{HOSTILE}\n{row['question']}"} for row in sample_rows()[:60]]
    )
    out = fit("--model.base_share=0.4")
    metrics = json.loads((out / "metrics.json").read_text())
    questions = [
        json.loads(line) for line in (out / "metrics_by_question.jsonl").read_text().splitlines()
    ]
    events = EventAccumulator(str(out / "logs")).Reload()
    scalars = events.Tags()["scalars"]
    assert {name.split("/")[0] for name in scalars} == {"gain", "train", "val", "verdict"}
    assert [point.step for point in events.Scalars("gain/ndcg@10")] == [7, 14]
    assert len(events.Scalars("val/ndcg@10")) == 3, "mixtures with the base model are no curve"
    (best,) = events.Scalars("verdict/ndcg@10_best")
    assert best.value == pytest.approx(metrics["best"]["ndcg@10"])
    plugins = {
        name
        for plugin in ("hparams", "custom_scalars", "text")
        for name in events.PluginTagToContent(plugin)
    }
    assert plugins >= {
        "_hparams_/experiment",
        "_hparams_/session_start_info",
        "verdict/text_summary",
    }
    assert "custom_scalars__config__" in plugins

    for model, name in (("base_model", "base"), ("tuned_model", "best")):
        folder = out / "logs" / "00000" / model
        head, *lines = (folder / "metadata.tsv").read_text().splitlines()
        assert head.split("\t") == ["text", "kind", "file", "rank"]
        assert [line.split("\t")[1] for line in lines] == ["question"] * 10 + ["answer"] * 10
        assert np.loadtxt(folder / "tensors.tsv").shape == (20, 32)
        ranks = [int(line.split("\t")[3]) for line in lines]
        assert ranks[:10] == ranks[10:]  # a question's, and its answer's
        gains = [1 / np.log2(1 + rank) if rank <= 10 else 0 for rank in ranks[:10]]
        assert gains == pytest.approx([question["ndcg@10"][name] for question in questions])
    config = (out / "logs" / "projector_config.pbtxt").read_text()
    assert "tuned_model" in config
    capsys.readouterr()
    fit("--model.base_share=0.4", "--ckpt_path=last")
    captured = capsys.readouterr()
    assert "Embedding dir exists" not in captured.out + captured.err
    assert (out / "logs" / "projector_config.pbtxt").read_text() == config
    assert (folder / "tensors.tsv").is_file()
