"""Hard negatives that are mined before training."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from oracle import read_records, split_records
from runs import assert_trained_as
from safetensors.torch import load_file
from tiny import sample_rows, write_jsonl

from embedft.cli.main import main

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize("loss", ["mnrl", "contrastive"])
def test_mining_before_training_equals_the_mine_command(
    fit: Callable[..., Path],
    pairs: Path,
    telling_model: Path,
    tmp_path: Path,
    capsys: Capture,
    loss: str,
) -> None:
    """The same weights, bit for bit, as with negatives that ``mine`` writes for the training rows."""
    rows = sample_rows()[:60]
    for row in rows[:30]:
        del row["file_name"]  # the other rows still name their file
    rows[40]["question"] = rows[0]["question"].upper()  # links the rows of two files
    write_jsonl(pairs, rows)
    flags = [f"--loss_function={loss}", f"--base_model={telling_model}"]
    flags += ["--data.mine_negatives=true"]
    out = fit(*flags, "--data.hard_negatives=2")
    said = capsys.readouterr().out
    trained = [rows[index] for index in split_records(read_records(pairs)[0], 0.8, seed=42).train]
    assert re.search(
        rf"mine_negatives: \d\d+ hard negatives for \d+ of {len(trained)} training", said
    )
    write_jsonl(tmp_path / "trained.jsonl", trained)
    mine = ["mine", f"--input_jsonl={tmp_path}/trained.jsonl", f"--base_model={telling_model}"]
    mine += [f"--output_jsonl={tmp_path}/mined.jsonl", "--num_negatives=4", "--precision=32-true"]
    main(mine)
    lines = (tmp_path / "mined.jsonl").read_text(encoding="utf-8").splitlines()
    mined = {row["id"]: row for row in map(json.loads, lines)}
    write_jsonl(pairs, [mined.get(row["id"], row) for row in rows])
    same = fit(*flags, "--data.hard_negatives=2", output_dir=tmp_path / "same")
    assert "\nmine_negatives: none are mined, as the file names" in capsys.readouterr().out
    other = fit(*flags, "--data.hard_negatives=0", output_dir=tmp_path / "other")
    assert_trained_as(same, other, out)
    mining, measuring = (json.loads((f / "metrics.json").read_text())["base"] for f in (out, same))
    for name, value in measuring.items():  # the first run reuses the embeddings of mining
        assert mining[name] == pytest.approx(value, abs=1e-6), name


def test_nothing_to_mine(
    fit: Callable[..., Path], pairs: Path, tmp_path: Path, capsys: Capture
) -> None:
    """All rows share a file, so no answer is known to be irrelevant: the run is as without mining."""
    rows = sample_rows()[:60]
    write_jsonl(tmp_path / "held_out.jsonl", rows[50:])
    write_jsonl(pairs, [row | {"file_name": "one.pdf"} for row in rows[:50]])
    own = f"--data.validation_jsonl={tmp_path}/held_out.jsonl"
    folders = [
        fit(own, f"--data.mine_negatives={value}", output_dir=tmp_path / value)
        for value in ("true", "false")
    ]
    assert "mine_negatives: 0 hard negatives for 0 of 50 training pairs" in capsys.readouterr().out
    weights = [load_file(folder / "final_model" / "model.safetensors") for folder in folders]
    torch.testing.assert_close(*weights, rtol=0, atol=0)
