from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from check_output import Capture, Flags, check_output, row_of
from tiny import sample_rows, write_jsonl

from embedft.data import load
from embedft.table.table import Table, read_table

RUNS = {
    "plain": [],
    "accumulated": ["--trainer.accumulate_grad_batches=3"],
    "cut short": ["--trainer.max_steps=5", "--warmup_steps=4"],
    "drawn negatives": ["--loss_function=contrastive"],
    "contexts": ["--data.positive=both", "--data.mine_negatives=true"],
    "another split": ["--train_split=0.5", "--data.split_seed=3", "--epochs=3"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_split_steps_and_evaluations_are_those_of_fit(
    name: str,
    fit: Callable[..., Path],
    fit_flags: Flags,
    capsys: Capture,
    tmp_path: Path,
) -> None:
    text = check_output([*fit_flags, *RUNS[name]], capsys)
    fit(*RUNS[name])
    log = capsys.readouterr().out
    split = re.search(
        r"split: (\d+) rows to train on \((\d+) groups\), (\d+) held out \((\d+)", log
    )
    steps = re.search(r"schedule: (\d+) steps, (\d+) of them warm-up", log)
    assert split is not None
    assert steps is not None
    assert row_of(text, "trained on") == [f"{split[1]} rows"]
    assert row_of(text, "held out")[0].startswith(f"{split[3]} rows: ")
    assert row_of(text, "groups")[0].startswith(f"{int(split[2]) + int(split[4])}, ")
    shown = re.match(r"(\d+) of \d+ pairs \(\d+ epochs\), (\d+) of them", row_of(text, "steps")[0])
    assert shown is not None
    assert shown.groups() == steps.groups()
    evaluations = re.search(r"(\d+) evaluations", row_of(text, "time")[0])
    assert evaluations is not None
    lines = (tmp_path / "out" / "training_metrics.jsonl").read_text("utf-8").splitlines()
    assert int(evaluations[1]) == sum("val/loss" in line for line in lines)


def test_several_devices(fit_flags: Flags, capsys: Capture) -> None:
    text = check_output([*fit_flags, "--devices=2", "--strategy=ddp"], capsys)
    assert row_of(text, "steps")[0].startswith("8 of 16 pairs")
    assert "on each of 2 devices" in row_of(text, "time")[0]


def test_the_file_is_read_once(
    fit_flags: Flags, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although Lightning's Trainer times both training and embedding."""
    read: list[str] = []

    def counted(path: str, *rest: Any) -> Table:
        read.append(path)
        return read_table(path, *rest)

    monkeypatch.setattr(load, "read_table", counted)
    check_output([*fit_flags, "--data.positive=context"], capsys)
    assert len(read) == 1


def test_evaluations_by_the_clock(fit_flags: Flags, capsys: Capture) -> None:
    flags = ["--trainer.val_check_interval=00:00:10:00", "--trainer.check_val_every_n_epoch=null"]
    assert row_of(check_output([*fit_flags, *flags], capsys), "steps")[0].startswith("14 ")


def test_a_validation_file(fit_flags: Flags, pairs: Path, tmp_path: Path, capsys: Capture) -> None:
    own = write_jsonl(tmp_path / "own.jsonl", sample_rows()[50:75])
    text = check_output([*fit_flags, f"--validation_jsonl={own}"], capsys)
    assert row_of(text, "trained on") == ["50 rows"]
    assert row_of(text, "held out")[0].startswith("a separate validation file: 25 questions")
