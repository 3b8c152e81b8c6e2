from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chat_server import ChatServer, Reply, pairs_about, passage_of
from generating import failing, rows_of, run

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_killed_run_resumes(
    serve: Callable[..., ChatServer], papers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was answered before ``kill -9`` is not asked again, and stands there once."""

    def answer(number: int, body: dict[str, Any]) -> Reply:
        time.sleep(0.15)
        return pairs_about(body)

    server = serve(answer)
    output = papers.parent / "made" / "pairs.jsonl"
    journal = output.with_name("pairs.jsonl.journal")
    flags = [f"--input_dir={papers}", f"--output_jsonl={output}", "--min_chars=20"]
    process = subprocess.Popen(
        [sys.executable, "scripts/generate_qa.py", *flags, "--concurrency=1"],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )
    while not journal.is_file() or journal.read_bytes().count(b"\n") < 3:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not output.exists()
    kept = [json.loads(line)["rows"] for line in journal.read_bytes().splitlines()[:3]]
    with journal.open("ab") as stream:
        stream.write(b'{"key": "half a li')  # as a kill in the middle of a write leaves it
    asked = len(server.requests)
    run(papers)
    again = [passage_of(body) for body in server.requests[asked:]]
    assert len(again) <= 9
    assert not set(again) & {row["context"] for rows in kept for row in rows}
    rows = rows_of(output)
    assert len({row["id"] for row in rows}) == len(rows)
    assert len({row["file_name"] for row in rows}) == 12
    for line in journal.read_bytes().splitlines():
        json.loads(line)

    before, asked = output.read_bytes(), len(server.requests)
    run(papers)
    assert output.read_bytes() == before
    assert len(server.requests) == asked
    capsys.readouterr()
    run(papers, "--dry_run")
    assert "12 passages, 12 of them answered already" in capsys.readouterr().out


def test_new_texts_are_asked_about_and_edits_are_kept(
    serve: Callable[..., ChatServer], papers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve(lambda number, body: pairs_about(body))
    output = run(papers, "--max_passages=4")
    assert len(server.requests) == 4
    run(papers)
    assert len(server.requests) == 12
    edited = output.read_text("utf-8").replace("What is known", "What do we know")
    output.write_text(edited, "utf-8")
    status, said = failing(capsys, papers)
    assert status == 2
    assert "it was edited or is another file" in said
    assert output.read_text("utf-8") == edited
    assert len(server.requests) == 12
    run(papers, "--overwrite")
    assert len(server.requests) == 24
    journal = output.with_name("pairs.jsonl.journal")
    journal.write_bytes(b"not JSON\n" + journal.read_bytes())
    assert "pairs.jsonl.journal: line 1 is damaged" in failing(capsys, papers)[1]
