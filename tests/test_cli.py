"""Whole runs through the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import OLDER_CONFIG, Capture, output_lines
from tiny import sample_rows, write_jsonl

from embedft.cli.main import main


def test_flat_config_trains(
    fit_flags: list[str], pairs: Path, tiny_model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "config.json"
    path.write_text(
        json.dumps(
            OLDER_CONFIG
            | {
                "input_jsonl": str(pairs),
                "base_model": str(tiny_model),
                "output_dir": str(tmp_path / "o"),
                "num_epochs": 1,
                "max_seq_length": 32,
                "evaluation_steps": 0,
            }
        )
    )
    main(["fit", "--config", str(path), "--trainer.enable_progress_bar=false", "--accelerator=cpu"])
    assert (tmp_path / "o" / "best_model").is_dir()


def shows(lines: list[str], *values: float) -> bool:
    """Whether the one table that was printed has this nDCG@10, or that of the base model first."""
    (shown,) = [line for line in lines if line.startswith("| ndcg@10")]
    if len(values) == 2:
        assert f"{values[1] - values[0]:+.4f}" == shown.split()[7]
    return shown.split()[3 : 2 + 2 * len(values) : 2] == [f"{value:.4f}" for value in values]


@pytest.mark.parametrize("command", ["test", "validate"])
def test_an_evaluation_prints_first_which_weights_it_evaluates(
    run_copy: Path, fit_flags: list[str], tiny_model: Path, command: str, capsys: Capture
) -> None:
    out = run_copy
    metrics = json.loads((out / "metrics.json").read_text())
    base_args = [command, f"--output_dir={out}", *fit_flags]
    before = sorted(out.rglob("*"))

    first, *rest = output_lines(base_args, capsys)
    assert first == f"{command}: the weights of base model {tiny_model}, no checkpoint"
    assert shows(rest, metrics["base"]["ndcg@10"])

    for name in ("best", "last"):
        first, *rest = output_lines([*base_args, f"--ckpt_path={name}"], capsys)
        step = metrics[name]["step"]
        path = out / "checkpoints" / f"{name}.ckpt"
        assert first.startswith(f"{command}: the weights of checkpoint {path} (step {step}, epoch ")
        values = [metrics[each]["ndcg@10"] for each in ("base", name)]
        assert shows(rest, *(values if command == "test" else values[1:]))

    exported = out / "final_model"  # best_model is the base model where nothing found more
    args = [
        f"--base_model={exported}" if flag.startswith("--base_model") else flag
        for flag in base_args
    ]
    first, *rest = output_lines(args, capsys)
    assert first == f"{command}: the weights of base model {exported}, no checkpoint"
    assert shows(rest, metrics["last"]["ndcg@10"])
    page = [out / "test_report.html"] if command == "test" else []
    assert sorted(out.rglob("*")) == sorted([*before, *page])


def test_a_checkpoint_is_evaluated_on_other_data(
    fit: Callable[..., Path], fit_flags: list[str], pairs: Path, capsys: Capture
) -> None:
    out = fit("--trainer.max_steps=5")  # it stops within an epoch, whose batches need its data
    write_jsonl(pairs, sample_rows()[60:100])
    said = output_lines(["test", f"--output_dir={out}", *fit_flags, "--ckpt_path=last"], capsys)
    assert any("40 rows read" in line for line in said)


def test_the_saved_config_evaluates_and_resumes(
    fit: Callable[..., Path], fit_flags: list[str], capsys: Capture
) -> None:
    out = fit("--trainer.max_steps=5")
    config = f"--config={out}/config.yaml"
    first, *_ = output_lines(["test", config, "--ckpt_path=best"], capsys)
    assert first.startswith(f"test: the weights of checkpoint {out}/checkpoints/best.ckpt (step 5")
    output_lines(["fit", config, "--ckpt_path=last", "--trainer.max_steps=9"], capsys)
    assert json.loads((out / "metrics.json").read_text())["last"]["step"] == 9
