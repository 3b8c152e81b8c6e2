"""The recipe is what a run without settings trains with, and what the presets start from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import printed

from embedft.recipe import WARMUP_FRACTION, WARMUP_LIMIT, warmup_length

ROOT = Path(__file__).parents[1]
PRESETS = sorted((ROOT / "configs").glob("*.yaml"))


def parsed(capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, Any]:
    """The settings of a command line, all of them."""
    text = printed(["fit", "--input_jsonl=a.jsonl", *flags, "--print_config"], capsys)
    settings: dict[str, Any] = yaml.safe_load(text)
    return settings


def test_a_run_without_a_config_is_the_recommended_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert parsed(capsys) == parsed(capsys, "--config=recommended")


def flat(settings: dict[str, Any], name: str = "") -> dict[str, Any]:
    """Nested settings by dotted name."""
    values: dict[str, Any] = {}
    for key, value in settings.items():
        dotted = f"{name}.{key}" if name else key
        values |= flat(value, dotted) if isinstance(value, dict) else {dotted: value}
    return values


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_names_only_what_differs(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The recipe has one home: a preset never repeats a default. Model and loss are names."""
    if path.stem == "recommended":
        pytest.skip("it shows the defaults")
    default = flat(parsed(capsys))
    named = flat(yaml.safe_load(path.read_text(encoding="utf-8")))
    repeated = {name for name, value in named.items() if default.get(name, "other") == value}
    assert repeated <= {"model.base_model", "model.loss.class_path"}


def test_the_baseline_has_the_settings_of_most_guides(capsys: pytest.CaptureFixture[str]) -> None:
    settings = parsed(capsys, "--config=baseline")
    assert settings["model"]["learning_rate"] == 2e-5
    assert settings["model"]["loss"]["init_args"] == {"scale": 20.0, "symmetric": False}
    assert settings["data"]["batch_size"] == 16
    assert settings["trainer"]["max_epochs"] == 3


def test_warmup() -> None:
    assert warmup_length("auto", 1000) == 100
    assert warmup_length("auto", 100_000) == 500
    assert warmup_length("auto", 9) == 0
    assert warmup_length(500, 100) == 500


@pytest.mark.parametrize(
    "path", ["embedft/training/module.py", "configs/recommended.yaml", "docs/presets.md"]
)
def test_the_warmup_is_told_as_it_is(path: str) -> None:
    text = " ".join((ROOT / path).read_text(encoding="utf-8").split())
    assert f"1 step in {WARMUP_FRACTION} of the run, at most {WARMUP_LIMIT}" in text
