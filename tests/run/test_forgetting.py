"""What a model has lost on pairs of another domain."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
from tiny import MULTILINGUAL

from embedft.cli.main import main
from embedft.run.forgetting import forgetting_sentence


@pytest.mark.parametrize(
    ("after", "forgotten"), [(0.7049, True), (0.7051, False), (0.71, False), (0.8, False)]
)
def test_a_drop_of_more_than_half_a_point_is_a_warning(after: float, forgotten: bool) -> None:
    change = {"mean": after - 0.71, "low": -0.1, "high": 0.1}
    said = forgetting_sentence(
        {"file": "other.jsonl", "before": 0.71, "after": after, "change": change}
    )
    assert ("FORGOTTEN" in said) is forgotten
    assert f"nDCG@10 on other.jsonl 0.7100 before, {after:.4f} after" in said


def test_it_is_measured_as_by_test(
    fit: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """The figures are those that `test --train_split 0` prints; log and model card tell them."""
    flags = [f"--base_model={tiny.MINILM}", "--trainer.max_steps=3", "--learning_rate=2e-5"]
    out = fit(*flags, f"--data.guard_jsonl={MULTILINGUAL}")
    said = capsys.readouterr().out
    result = json.loads((out / "metrics.json").read_text())["guard"]
    assert result["file"] == str(MULTILINGUAL)
    change = result["after"] - result["before"]
    assert change != 0
    assert result["change"]["mean"] == pytest.approx(change, abs=1e-6)
    assert forgetting_sentence(result) in said
    assert forgetting_sentence(result) in (out / "best_model" / "README.md").read_text()
    models = {tiny.MINILM: "before", str(out / "best_model"): "after"}
    for model, name in models.items():
        main(
            [
                "test",
                f"--input_jsonl={MULTILINGUAL}",
                f"--base_model={model}",
                "--train_split=0",
                "--precision=32-true",
                "--accelerator=cpu",
                "--trainer.enable_progress_bar=false",
            ]
        )
        shown = re.search(r"ndcg@10 +\| ([0-9.]+)", capsys.readouterr().out)
        assert shown is not None
        assert shown[1] == f"{result[name]:.4f}"
