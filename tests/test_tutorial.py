"""Runs docs/tutorial.md again: it prints what the page shows."""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
from pathlib import Path

import programs
import pytest
from tiny import sample_rows, write_jsonl

from scripts.transcript import NOT_RUN, PAGE, Step, loosened, run_steps, steps

pytestmark = pytest.mark.docs

STEPS = steps(PAGE.read_text(encoding="utf-8"))


def run(command: list[str], folder: Path, variables: dict[str, str]) -> str:
    """As a new program; Python code runs in this process, which has its imports."""
    if command[:3] == ["python", "-m", "embedft"]:
        result = programs.run(command[3:], folder=folder, variables=variables)
        assert result.returncode == 0, result.stdout + result.stderr
        assert not result.stderr
        return result.stdout
    if command[:2] == ["python", "-c"]:
        with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(command[2], "tutorial", "exec"), {"__name__": "__main__"})
        return printed.getvalue()
    return subprocess.run(command, cwd=folder, check=True, stdout=-1, text=True).stdout


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tutorial")


@pytest.fixture(scope="module")
def printed(desk: Path) -> list[tuple[Step, str]]:
    texts = run_steps(PAGE.read_text(encoding="utf-8"), desk, run)
    return list(zip(STEPS, texts, strict=True))


@pytest.mark.slow
def test_prints_what_the_page_says(printed: list[tuple[Step, str]], desk: Path) -> None:
    for step, said in printed:
        if step.language == "bash":
            assert loosened(said).split() == loosened(step.printed).split(), step.code
    assert (desk / "out" / "report.html").exists()
    assert list((desk / "out" / "logs").rglob("events.*"))


@pytest.mark.slow
def test_the_pages_claims_hold(printed: list[tuple[Step, str]]) -> None:
    """What the page says about the metrics is true of this run."""
    said = {step.code.split("embedft ")[-1].split()[0]: text for step, text in printed}
    assert "The tuned model is not significantly better than the base model" in said["fit"]
    measured = re.search(r"ndcg@10 +\| ([\d.]+)", said["test"])
    best = re.search(r"^\| ndcg@10 +\| [\d.]+ \| ([\d.]+)", said["fit"], re.MULTILINE)
    assert measured is not None
    assert best is not None
    assert float(measured[1]) == pytest.approx(float(best[1]), abs=1e-4)
    tuned, base = said["search"].split("by sentence-transformers/")
    (used,) = [text for step, text in printed if step.language == "python"]
    found = re.findall(r"^  \d   (\d\.\d{3})  \S+ +(\S+)", tuned, re.MULTILINE)
    loaded = [line.split() for line in used.splitlines()]
    assert found[0][1] == loaded[0][1] == "aerosol-03-q3"
    assert [float(score) for score, _ in found] == pytest.approx(
        [float(score) for score, _ in loaded], abs=5e-3
    )
    assert len(found) == len(loaded) == 3
    assert "aerosol-03-q3" not in base


@pytest.mark.slow
def test_the_same_commands_on_another_file(tmp_path: Path, tiny_model: Path) -> None:
    """1,000 pairs without file names: every command works and writes nothing to stderr."""
    rows = [
        {
            "question": f"{row['question']} (Site {site})",
            "answer": f"Site {site}: {row['answer']}",
        }
        for site in range(4)
        for row in sample_rows()
    ]
    assert len(rows) == 1000
    write_jsonl(tmp_path / "mine.jsonl", rows)

    def said(*arguments: str) -> str:
        result = programs.run(
            list(arguments),
            folder=tmp_path,
            variables={"XDG_CACHE_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"},
        )
        assert (result.returncode, result.stderr) == (0, ""), result.stdout + result.stderr
        return result.stdout

    flags = ["--config=recommended", f"--base_model={tiny_model}", "--accelerator=cpu"]
    checked = said("check", "mine.jsonl", *flags, "--html=check.html")
    assert "mine.jsonl: 1,000 rows, 0 bad, 1,000 used" in checked
    assert "1,000 rows have no file_name" in checked
    assert "| ndcg@10 " in said("fit", "mine.jsonl", *flags, "--output_dir=out")
    assert (tmp_path / "out" / "report.html").exists()
    assert "| ndcg@10 " in said("test", "mine.jsonl", *flags, "--ckpt_path=best")
    found = said("search", "--model=out/best_model", "--input_jsonl=mine.jsonl", "Why is it dry?")
    assert found.count("\n  ") == 5


def test_under_ten_commands() -> None:
    typed = [step for step in STEPS if step.language == "bash"]
    assert all(step.code.count("\n") == 1 for step in typed)
    assert len(typed) == 8  # the page says so
    assert sum(step.code.startswith(NOT_RUN) for step in typed) == 3


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("nDCG@10 0.4999 to 0.57, 95% interval -0.01", "nDCG@10 0.51 to 0.6, 94% interval +0.2", True),
        ("precision auto: bf16-mixed", "precision auto: 32-true", True),
        ("about 25 s: steps 18 s", "about 7 s: steps 5 s", True),
        ("base_share 0.4: nDCG@10 0.5\nx", "base_share 0.4: nDCG@10 0.5\nbase_share 0.2: nDCG@10 0.6\nx", True),
        ("split: 200 rows to train on", "split: 190 rows to train on", False),
        ("The tuned model is better", "The tuned model is NOT better", False),
        ("| recall@5 | 0.5 |", "| recall@5 | nan |", False),
        ("  1   0.336  (-)  a  b", "", False),
    ],
)  # fmt: skip
def test_which_differences_are_ignored(one: str, other: str, same: bool) -> None:
    assert (loosened(one) == loosened(other)) is same
