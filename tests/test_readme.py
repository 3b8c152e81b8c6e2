"""Runs every command and every Python block of the README and of CONTRIBUTING."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import programs
import pytest
from oracle import read_records, split_records
from tiny import sample_rows, write_jsonl

pytestmark = pytest.mark.docs

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PERFORMANCE = (ROOT / "docs/performance.md").read_text(encoding="utf-8")

# Changes that make the commands short, or let them run on a machine without four GPUs.
SHORT = "--trainer.max_steps=3 --trainer.enable_progress_bar=false --max_seq_length=48"
INSTEAD = {
    "--devices 4": "--accelerator cpu --devices 2",
    "tensorboard --logdir": "tensorboard --inspect --logdir",
}


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


COMMANDS = [line for block in blocks(README, "bash") for line in block.splitlines()]
SET_UP = [command for command in COMMANDS if command.startswith("bash scripts/")]
COMPARISON = [command for command in COMMANDS if "compare_with" in command]
BENCHMARKS = [command for command in COMMANDS if "scripts/benchmark" in command]  # test_benchmark
STUDY = [command for command in COMMANDS if "scripts/study" in command]
APART = SET_UP + COMPARISON + BENCHMARKS + STUDY
TO_RUN = [command for command in COMMANDS if command not in APART]


def run(command: str, folder: Path) -> str:
    variables = {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONWARNINGS": "ignore",
    }
    if command.startswith("python -m embedft "):
        result = programs.run(shlex.split(command)[3:], folder=folder, variables=variables)
    else:
        result = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env=os.environ | variables,
            capture_output=True,
            text=True,
        )
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder as a reader has it: files of the repository and a pairs.jsonl."""
    for name in ("configs", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / name)
    write_jsonl(tmp_path / "pairs.jsonl", sample_rows()[:100])
    return tmp_path


@pytest.mark.slow
def test_commands_and_python_in_their_order(desk: Path) -> None:
    assert len(TO_RUN) >= 10
    for command in TO_RUN:
        shorter = command
        for there, here in INSTEAD.items():
            shorter = shorter.replace(there, here)
        if command.startswith("python -m embedft fit") and "--print_config" not in command:
            resumed = "--ckpt_path" in command
            shorter += f" {SHORT}".replace(
                "max_steps=3", "max_steps=5" if resumed else "max_steps=3"
            )
        said = run(shorter, desk)
        if "--print_config" in command:
            assert "learning_rate: 2.0e-05" in said
        if command.startswith("python -m embedft test"):
            assert said.startswith("test: the weights of ")
    # One after the other in one process: sentence-transformers takes seconds to import.
    codes = blocks(README, "python")
    (desk / "blocks.py").write_text(
        f"for code in {codes!r}:\n    exec(code, {{}})\n    print('<end>')\n", encoding="utf-8"
    )
    *printed, nothing = run("python blocks.py", desk).split("<end>\n")
    assert len(printed) == len(codes) >= 3
    assert all(text.strip() for text in printed)
    assert not nothing


@pytest.mark.slow
def test_comparison_script(desk: Path) -> None:
    (command,) = COMPARISON
    write_jsonl(desk / "few.jsonl", sample_rows()[:40])
    said = run(
        command.replace("pairs.jsonl", "few.jsonl") + " --epochs 1 --output_dir compared", desk
    )
    table = said[said.index("| model |") :].splitlines()
    rows = [line.split("|")[1].strip() for line in table]
    assert rows == ["model", "---", "base", "embedft", "sentence-transformers"]


@pytest.mark.slow
def test_study_script(desk: Path) -> None:
    """sentence-transformers and a recipe, compared with the base model; a second run only prints."""
    (command,) = STUDY
    (desk / "study.yaml").write_text(
        """
data: .
sets: {sample: {file: pairs.jsonl, pairs: 30, guard: pairs.jsonl, split_seed: 7}}
seeds: [1]
recipes:
  recommended: {config: configs/recommended.yaml, trainer.max_steps: 2, report: null}
  peer: {peer: expert+negatives}
"""
    )
    said = run(command, desk)
    rows = [line.split(" | ") for line in said[said.index("| set |") :].splitlines()]
    assert [row[1] for row in rows[:1] + rows[2:]] == ["recipe", "recommended", "peer"]
    assert rows[2][2] == rows[3][2]  # one base model
    assert all(0 < float(row[3]) < 1 for row in rows[2:])
    for row in rows[2:]:  # here the other set is the same file, so both changes are equal
        assert float(row[6]) == pytest.approx(float(row[3]) - float(row[2]), abs=2e-4)
    assert said.endswith(run(command, desk).split("\n\n")[-1])
    with (desk / "configs" / "recommended.yaml").open("a") as config:
        config.write("# another recipe\n")
    with pytest.raises(
        AssertionError, match="1.json: was made with other settings or data; give another"
    ):
        run(command, desk)
    records, _ = read_records(str(desk / "pairs.jsonl"))
    held_out = split_records(records, 0.9, seed=7).validation
    (trained,) = desk.rglob("sample-1/train.jsonl")
    ids = {json.loads(row)["id"] for row in trained.read_text("utf-8").splitlines()}
    assert len(ids) == 30
    assert not ids & {records[row].id for row in held_out}
    (base,) = desk.rglob("*-pairs.jsonl-7.json")
    assert len(json.loads(base.read_text())["value"]["ndcg"]) == len(
        {records[row].question for row in held_out}
    )


def test_set_up_commands_exist() -> None:
    """They run in a bare clone, not inside the tests that they start."""
    assert SET_UP == ["bash scripts/quickstart", "bash scripts/test"]
    for command in SET_UP:
        script = ROOT / command.split()[1]
        assert os.access(script, os.X_OK)
        subprocess.run(["bash", "-n", str(script)], check=True)
    extras = re.search(
        r"source scripts/environment (\S+)", (ROOT / "scripts/quickstart").read_text()
    )
    assert extras is not None
    assert set(extras[1].split(",")) == {"offline", "search"}  # the next section searches


@pytest.mark.slow
def test_a_loss_in_one_file(tmp_path: Path) -> None:
    """Runs the example of CONTRIBUTING unchanged."""
    (code,) = blocks(CONTRIBUTING, "python")
    (tmp_path / "my_losses.py").write_text(code, encoding="utf-8")
    write_jsonl(tmp_path / "pairs.jsonl", sample_rows()[:60])
    (command,) = re.findall(r"^    (python -m embedft fit .*)$", CONTRIBUTING, re.MULTILINE)
    assert "schedule: " in run(f"{command} {SHORT}", tmp_path)


def test_links_lead_somewhere() -> None:
    for text in (README, CONTRIBUTING, PERFORMANCE):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
            assert (ROOT / target).exists(), target


def test_flags_named_in_the_readme_exist() -> None:
    from embedft.cli.flags import FLAT_CONFIG_KEYS, SHORT_FLAGS

    assert all(key in README for key in FLAT_CONFIG_KEYS)
    short = re.search(r"The short ones are\n`(.*?)`", README, re.DOTALL)
    assert short is not None
    named = set(short[1].replace("--", "").split())
    assert named == (set(SHORT_FLAGS) | {"output_dir"}) - {"num_epochs", "train_batch_size"}
