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
TUTORIAL = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
MIGRATION = (ROOT / "docs/migration.md").read_text(encoding="utf-8")

SHORT = "--trainer.max_steps=3 --trainer.enable_progress_bar=false --max_seq_length=48"


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


COMMANDS = [line for block in blocks(README, "bash") for line in block.splitlines()]
APART = ("bash scripts/", "source ", "pip install ")
TO_RUN = [command for command in COMMANDS if not command.startswith(APART)]
STUDY = "python scripts/study.py --study study.yaml"


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
    """A folder as a reader has it: files of the repository, and pairs."""
    for name in ("configs", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / name)
    write_jsonl(tmp_path / "pairs.jsonl", sample_rows()[:100])
    return tmp_path


@pytest.mark.slow
def test_commands_and_python_in_their_order(desk: Path) -> None:
    """From a file to a verdict, a search and an export, in fewer than ten commands."""
    assert 5 <= len(TO_RUN) < 10
    for command in TO_RUN:
        shorter = command
        if command.startswith("python -m embedft fit"):
            shorter += f" {SHORT}"
            if "--ckpt_path" in command:
                shorter = shorter.replace("max_steps=3", "max_steps=5")
        said = run(shorter, desk)
        if command.startswith("python -m embedft test"):
            assert said.startswith("test: the weights of ")
    codes = blocks(README, "python")
    assert codes
    for code in codes:
        (desk / "block.py").write_text(code, encoding="utf-8")
        assert run("python block.py", desk).strip()


@pytest.mark.slow
def test_study_script(desk: Path) -> None:
    """sentence-transformers and a recipe, compared with the base model; a second run only prints."""
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
    said = run(STUDY, desk)
    rows = [line.split(" | ") for line in said[said.index("| set |") :].splitlines()]
    assert [row[1] for row in rows[:1] + rows[2:]] == ["recipe", "recommended", "peer"]
    assert rows[2][2] == rows[3][2]  # one base model
    assert all(0 < float(row[3]) < 1 for row in rows[2:])
    for row in rows[2:]:  # here the other set is the same file, so both changes are equal
        assert float(row[6]) == pytest.approx(float(row[3]) - float(row[2]), abs=2e-4)
    assert said.endswith(run(STUDY, desk).split("\n\n")[-1])
    with (desk / "configs" / "recommended.yaml").open("a") as config:
        config.write("# another recipe\n")
    with pytest.raises(
        AssertionError, match="1.json: was made with other settings or data; give another"
    ):
        run(STUDY, desk)
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
    for command in ("bash scripts/quickstart", "bash scripts/test"):
        assert command in README
        script = ROOT / command.split()[1]
        assert os.access(script, os.X_OK)
        subprocess.run(["bash", "-n", str(script)], check=True)
    extras = re.search(
        r"source scripts/environment (\S+)", (ROOT / "scripts/quickstart").read_text()
    )
    assert extras is not None
    assert set(extras[1].split(",")) == {"offline", "search"}  # the README searches


def test_the_readme_is_short_and_shows_the_tutorials_run() -> None:
    """One run of the sample: each line of the README's output is also in the tutorial."""
    assert README.count("\n") < 200
    (shown,) = blocks(README, "text")
    lines = [line for line in shown.replace("quickstart_out", "out").splitlines() if line]
    assert len(lines) >= 10
    assert not [line for line in lines if line not in TUTORIAL.splitlines()]


@pytest.mark.slow
def test_a_loss_in_one_file(tmp_path: Path) -> None:
    """Runs the example of CONTRIBUTING unchanged."""
    (code,) = blocks(CONTRIBUTING, "python")
    (tmp_path / "my_losses.py").write_text(code, encoding="utf-8")
    write_jsonl(tmp_path / "pairs.jsonl", sample_rows()[:60])
    (command,) = re.findall(r"^    (python -m embedft fit .*)$", CONTRIBUTING, re.MULTILINE)
    assert "schedule: " in run(f"{command} {SHORT}", tmp_path)


def test_links_lead_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_settings_of_the_older_tool_are_explained() -> None:
    from embedft.cli.flags import FLAT_CONFIG_KEYS

    assert not [key for key in FLAT_CONFIG_KEYS if key not in MIGRATION]
