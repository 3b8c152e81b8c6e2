from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from check_output import (
    Capture,
    Flags,
    advice_lines,
    check_output,
    error_of,
    odd_rows,
    refusal_of,
    row_of,
)
from reader import Reader
from runs import FinishedRun
from tiny import SAMPLE, sample_rows, write_jsonl

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs/checking.md").read_text(encoding="utf-8")


def test_check_and_fit_give_the_same_share_of_truncated_texts(
    fit: Callable[..., Path], fit_flags: Flags, pairs: Path, tmp_path: Path, capsys: Capture
) -> None:
    rows = sample_rows()[:60]
    rows[3]["answer"] = rows[4]["answer"] = "It is."  # one text, which counts once
    write_jsonl(pairs, rows)
    page = tmp_path / "check.html"
    text = check_output([*fit_flags, f"--html={page}"], capsys)
    out = fit("--trainer.max_steps=1")
    cut = json.loads((out / "metrics.json").read_text())["data"]["texts_cut"]
    questions, answers = re.findall(r"(\d+\.\d% of the \w+)", cut)
    assert answers == f"{58 / 59:.1%} of the answers"
    assert cut == f"max_seq_length 48 cuts {questions} and {answers}"
    assert cut in capsys.readouterr().out.splitlines()
    assert cut in (out / "report.html").read_text()
    assert f"- texts_cut: {cut}" in (out / "best_model" / "README.md").read_text()
    for share in (questions, answers):
        assert f"- max_seq_length 48 cuts {share}: " in text
        assert f"; max_seq_length 48 cuts {share} (dashed" in page.read_text()


REFUSED: dict[str, list[dict[str, Any]]] = {
    "empty": [],
    "one row": sample_rows()[:1],
    "two rows": sample_rows()[:10:5],
    "one file": sample_rows()[:5],
    "all bad": [{"question": "q"}, {"answer": 1}],
    "labels on some": [{**row, "label": 1} for row in sample_rows()[:20]] + sample_rows()[20:30],
    "no right answer": [{**row, "label": 0} for row in sample_rows()[:20]],
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_what_fit_refuses(name: str, tmp_path: Path, small: Flags, capsys: Capture) -> None:
    pairs = write_jsonl(tmp_path / "pairs.jsonl", REFUSED[name])
    text, error = refusal_of([str(pairs), *small], capsys)
    flags = [f"--input_jsonl={pairs}", *small, f"--output_dir={tmp_path}/out"]
    assert error == error_of(["fit", *flags], capsys)
    if name not in ("empty", "all bad"):  # the rest of the report is there all the same
        assert "| repeated answers " in text
    assert "To train" not in text


def test_without_a_model(pairs: Path, tmp_path: Path, capsys: Capture) -> None:
    """The file is checked anyway, and the page is written."""
    page = tmp_path / "page.html"
    text, error = refusal_of([str(pairs), "--base_model=none/there", f"--html={page}"], capsys)
    assert "60 rows, 0 bad, 60 used" in text
    assert row_of(text, "repeated answers")[0] == "0"
    assert error.startswith("base_model none/there: not found")
    assert "base_model none/there: not found" in page.read_text("utf-8")


def test_nothing_is_written(
    fit_flags: Flags, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """A check writes neither to the current folder, nor to the output folder, nor to the cache."""
    desk, temporary = tmp_path / "desk", tmp_path / "temporary"
    desk.mkdir()
    temporary.mkdir()
    monkeypatch.chdir(desk)
    monkeypatch.setenv("XDG_CACHE_HOME", str(desk / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    check_output([*fit_flags, "--output_dir=out"], capsys)
    assert list(desk.iterdir()) == []
    assert list(temporary.iterdir()) == []


@pytest.mark.slow
def test_the_config_of_a_fit_is_checked(
    finished_run: FinishedRun, fit_flags: Flags, capsys: Capture
) -> None:
    config = finished_run.folder / "config.yaml"
    expected = check_output(fit_flags, capsys)
    text = check_output(["--config", str(config)], capsys)
    for name in ("trained on", "held out", "steps"):
        assert row_of(text, name) == row_of(expected, name)


def test_the_file_may_be_at_any_position(pairs: Path, small: Flags, capsys: Capture) -> None:
    first = check_output([str(pairs), *small, "--epochs", "2"], capsys)
    last = check_output([*small, "--epochs", "2", str(pairs)], capsys)
    assert row_of(first, "steps") == row_of(last, "steps")
    assert "unrecognized arguments: other.jsonl" in error_of(
        ["check", str(pairs), "other.jsonl"], capsys
    )
    assert "--input_jsonl" in error_of(["check", *small], capsys)


def test_page(tmp_path: Path, small: Flags, capsys: Capture) -> None:
    rows = odd_rows()
    hostile = "<script>alert('ü')</script> & \"$x$\" $\\frac{"
    rows[21]["question"] = rows[1]["question"] = hostile
    rows[3]["file_name"] = hostile
    pairs = write_jsonl(tmp_path / "pairs.jsonl", rows)
    page = tmp_path / "new" / "page.html"
    text = check_output([str(pairs), *small, f"--html={page}"], capsys)
    assert text.rstrip().endswith(f"page: {page}")
    html = page.read_text("utf-8")
    reader = Reader()
    reader.feed(html)
    assert "script" not in reader.tags
    assert reader.tags.count("svg") == 6  # three lengths, pairs a file, copied, languages
    assert hostile in reader.text
    for line in advice_lines(text):
        assert line in reader.text
    assert 'src="http' not in html
    assert [p.name for p in page.parent.iterdir()] == ["page.html"]
    message = error_of(["check", str(pairs), *small, f"--html={page}"], capsys)
    assert message == f"{page}: exists already; give another --html or --overwrite"
    check_output([str(pairs), *small, f"--html={page}", "--overwrite"], capsys)


def without_machine(text: str) -> list[str]:
    """Lines without what depends on the machine: times, column widths, the model's path."""
    lines = []
    for line in text.strip().splitlines():
        line = re.sub(r"about .*", "about", line) if line.startswith("| time") else line
        line = re.sub(r"\s+\|", " |", re.sub(r"-{3,}", "---", line))
        if not line.startswith(("base model ", "precision auto")):
            lines.append(line)
    return lines


@pytest.mark.docs
@pytest.mark.slow
def test_transcript(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """docs/checking.md shows what is printed."""
    monkeypatch.chdir(ROOT)
    command, shown = re.findall(r"```(?:bash|text)\n(.*?)```", DOCUMENT, re.DOTALL)[:2]
    assert SAMPLE.relative_to(ROOT).as_posix() in command
    args = command.split()
    assert args[:4] == ["python", "-m", "embedft", "check"]
    assert without_machine(check_output(args[4:], capsys)) == without_machine(shown)
