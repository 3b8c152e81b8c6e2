"""Runs every example of docs/using.md: all find the same answers."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from test_readme import ROOT, blocks, run
from tiny import MINILM, sample_rows, write_jsonl

from embedft.cli.main import main
from embedft.encoder.base_model import find_base_model

pytestmark = pytest.mark.docs

PAGE, PUBLISHING = (ROOT / "docs/using.md").read_text("utf-8").split("\n## Publish ")
COMMANDS = [line for block in blocks(PAGE, "bash") for line in block.splitlines()]
PYTHON = {
    title: code
    for section in PAGE.split("\n## ")[1:]
    for title, code in [(section.splitlines()[0], "".join(blocks(section, "python")))]
    if code
}
OWN = "Use it from Python"

Found = list[tuple[float, str]]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a reader of the page has it."""
    folder = tmp_path_factory.mktemp("desk")
    write_jsonl(folder / "pairs.jsonl", sample_rows()[:60])
    shutil.copytree(find_base_model(MINILM).folder, folder / "out" / "best_model")
    (folder / "questions.txt").write_text("How is dust bound?\nWhat is soil?\n")
    return folder


@pytest.fixture(scope="module")
def said(desk: Path) -> list[str]:
    """What each command prints."""
    to_run = [command for command in COMMANDS if not command.startswith("pip install")]
    assert len(to_run) == len(COMMANDS) - 1
    return [run_here(f"{command} --precision 32-true", desk) for command in to_run]


def run_here(command: str, folder: Path) -> str:
    """What ``python -m embedft ...`` prints; a new process would take seconds to start."""
    command, _, questions = re.sub(r" < (\S+)(.*)", r"\2 < \1", command).partition(" < ")
    python, dash_m, package, *args = shlex.split(command)
    assert [python, dash_m, package] == ["python", "-m", "embedft"]
    stdin = (folder / questions if questions else Path(os.devnull)).open(encoding="utf-8")
    with (
        contextlib.redirect_stdout(io.StringIO()) as printed,
        pytest.MonkeyPatch.context() as patch,
        stdin,
    ):
        patch.chdir(folder)
        patch.setattr(sys, "stdin", stdin)
        main(args)
    return printed.getvalue()


@pytest.fixture(scope="module")
def printed(desk: Path, said: list[str]) -> dict[str, dict[str, str]]:
    """What each block prints: all run in one process, because imports take longest."""
    (desk / "blocks.json").write_text(json.dumps(PYTHON), encoding="utf-8")
    run(f"python {ROOT}/tests/run_blocks.py blocks.json printed.json", desk)
    results = json.loads((desk / "printed.json").read_text(encoding="utf-8"))
    assert isinstance(results, dict)
    return results


def found_in(text: str) -> Found:
    """Scores and ids of the lines that begin with a score."""
    return [(float(score), name) for score, name in re.findall(r"^(\d\.\d{3}) (\S+)", text, re.M)]


@pytest.mark.slow
def test_commands(said: list[str], desk: Path) -> None:
    one, compared, nothing, predicted = said
    assert one.startswith("Why do silicon anodes lose capacity?\n  1   0.")
    assert compared.count("by out/best_model\n  1   0.") == 2
    assert compared.count("by sentence-transformers/all-MiniLM-L6-v2\n  1   0.") == 2
    assert nothing == ""  # standard input is empty and not a terminal
    assert "60 embeddings" in predicted


@pytest.mark.slow
@pytest.mark.parametrize("title", [title for title in PYTHON if title != OWN])
def test_all_find_the_same(title: str, printed: dict[str, dict[str, str]]) -> None:
    result = printed[title]
    if "missing" in result:
        pytest.skip(f"{result['missing']} is not installed")
    found = found_in(result["said"])
    expected = found_in(printed["sentence-transformers"]["said"])
    assert [name for _, name in found] == [name for _, name in expected]
    assert [score for score, _ in found] == pytest.approx(
        [score for score, _ in expected], abs=2e-3
    )
    assert len(found) == 3


@pytest.mark.slow
def test_fit_evaluate_search(printed: dict[str, dict[str, str]]) -> None:
    lines = printed[OWN]["said"].splitlines()
    (index,) = [i for i, line in enumerate(lines) if line.startswith("out-python/best_model ")]
    after = float(lines[index].split()[1])
    (measured,) = [line for line in lines[index + 1 :] if re.fullmatch(r"[01]\.\d+", line)]
    assert float(measured) == pytest.approx(after, abs=1e-6)
    assert len(found_in("\n".join(lines))) == 5


def test_the_list_of_an_upload_is_what_is_printed(desk: Path) -> None:
    command = blocks(f"## {PUBLISHING}", "bash")[0].strip()
    first = run_here(command, desk).splitlines()[0]
    assert first in blocks(f"## {PUBLISHING}", "text")[0]


def test_the_page_covers_what_it_should() -> None:
    tools = ["sentence-transformers", "FAISS", "Qdrant", "PostgreSQL", "LangChain", "LlamaIndex"]
    assert [any(title.startswith(tool) for title in PYTHON) for tool in tools] == [True] * 6
