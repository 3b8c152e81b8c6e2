"""The benchmark scripts keep working: docs/performance.md's commands, one round, hardly any steps."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny

pytestmark = pytest.mark.docs

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "scripts"
PAGE = (ROOT / "docs/performance.md").read_text(encoding="utf-8")


def run(script: str, tmp_path: Path, *flags: str) -> tuple[dict[str, Any], str]:
    """What docs/performance.md's command of a script writes and prints, with these flags after it."""
    (command,) = re.findall(rf"^python (scripts/{script} .*)$", PAGE, re.MULTILINE)
    name, *given = shlex.split(command)
    shutil.copyfile(tiny.SAMPLE, tmp_path / "pairs.jsonl")
    results = tmp_path / "results.json"
    given += ["--rounds=1", "--threads=1", f"--json={results}", *flags]
    done = subprocess.run(
        [sys.executable, str(ROOT / name), *given], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(results.read_text(encoding="utf-8")), re.sub(" +", " ", done.stdout)


@pytest.mark.slow
def test_training_benchmark(tmp_path: Path) -> None:
    """With the script's own base model, of real weights."""
    result, table = run("benchmark.py", tmp_path, "--batch_size=4", "--steps=2", "--warmup_steps=1")

    (case,) = result["cases"]
    check = case["check"]
    assert len(check["embedft"]) == len(check["peer"]) == 8
    assert check["embedft"] == pytest.approx(check["peer"], abs=1e-4)
    assert check["max_loss_difference"] <= 1e-4
    assert case["ratio"]["min"] > 0
    for side in ("embedft", "peer"):
        (measured,) = case["rounds"][side]
        assert len(measured["step_seconds"]) == 2
        assert len(measured["losses"]) == 3
        assert case[side]["pairs_per_second"] == pytest.approx(8 / measured["seconds"])
        assert 0 < case[side]["share_of_gemm_limit"] < 1
        assert case[side]["peak_rss_mb"] > 50
    assert "| pairs.jsonl | all-MiniLM-L6-v2 | 4 |" in table


@pytest.mark.slow
def test_benchmark_of_what_surrounds_training(tiny_model: Path, tmp_path: Path) -> None:
    result, table = run(
        "benchmark_around.py",
        tmp_path,
        f"--base_model={tiny_model}",
        "--pairs=60",
        "--rows=300",
        f"--scratch={tmp_path}",
    )

    start, validate, predict, read = (
        next(value for title, value in result.items() if title.startswith(word))
        for word in ("Start", "Validation", "Embedding", "Reading")
    )
    assert {"embedft", "peer", "embedft, again", "peer, again"} == start.keys() == read.keys()
    assert read["peer"][0]["batches"] == 19  # 300 rows in batches of 16
    assert read["embedft"][0]["batches"] == 17  # 270 of them: the others are held out
    score = validate["peer, fp32, batch 32"][0]["score"]
    assert validate["embedft, fp32"][0]["score"] == pytest.approx(score, abs=1e-4)
    assert predict.keys() == validate.keys()
    assert all(cosine["least"] > 0.99 for cosine in result["cosines"].values())
    for part in (start, validate, predict, read):
        assert all(runs[0]["seconds"] > 0 for runs in part.values())
    assert table.count("embedft is faster") >= 4
    assert sorted(tmp_path.iterdir()) == [tmp_path / "pairs.jsonl", tmp_path / "results.json"]


@pytest.mark.slow
def test_benchmark_of_batches(tiny_model: Path) -> None:
    command = [sys.executable, str(SCRIPTS / "benchmark_batches.py"), "--only=ranks", "--rounds=1"]
    command += [f"--input_jsonl={tiny.SAMPLE}", f"--base_model={tiny_model}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    table = re.sub(" +", " ", done.stdout)
    assert "| 1 process, 2 threads | " in table
    assert "| 2 ranks, 1 thread each | " in table


def test_too_few_pairs_are_one_clear_line(tiny_model: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPTS / "benchmark.py"), f"--input_jsonl={tiny.SAMPLE}"]
    done = subprocess.run([*command, "--batch_size=5000"], capture_output=True, text=True)

    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "distinct pairs" in line
