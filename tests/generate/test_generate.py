from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from chat_server import ChatServer, pairs_about
from filelock import FileLock
from generating import KEY, failing, rows_of, run
from oracle import read_records

from embedft.cli.main import main as embedft


def test_fit_trains_on_the_generated_pairs(
    serve: Callable[..., ChatServer], papers: Path, tiny_model: Path, tmp_path: Path
) -> None:
    server = serve(lambda number, body: pairs_about(body))
    output = run(papers)
    assert len(server.requests) == 12
    assert set(server.keys) == {f"Bearer {KEY}"}
    assert {body["model"] for body in server.requests} == {"small"}
    assert server.requests[0]["response_format"] == {"type": "json_object"}
    rows = rows_of(output)
    assert {"id", "question", "answer", "context", "file_name"} == set(rows[0])
    assert len({row["id"] for row in rows}) == len(rows)
    assert rows[0]["id"] == "paper-00.txt#p1q1"
    assert {row["file_name"] for row in rows} >= {"paper-00.txt", "sub/电池.txt"}
    for path in output.parent.iterdir():
        assert KEY not in path.read_text("utf-8")
    _, report = read_records(output)
    assert report.duplicates == 0
    embedft(
        [
            "fit",
            f"--input_jsonl={output}",
            f"--base_model={tiny_model}",
            f"--output_dir={tmp_path / 'out'}",
            "--epochs=1",
            "--accelerator=cpu",
            "--precision=32-true",
            "--trainer.enable_progress_bar=false",
        ]
    )
    assert (tmp_path / "out" / "best_model" / "modules.json").is_file()


def test_tokens_and_cost_are_printed(
    serve: Callable[..., ChatServer], papers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(lambda number, body: pairs_about(body))
    run(papers, "--input_price=1000", "--output_price=10000")
    said = capsys.readouterr().out
    assert "tokens: 1,200 in, 240 out" in said
    assert "cost: 3.6000" in said


def test_wrong_settings_end_in_one_line(
    serve: Callable[..., ChatServer],
    papers: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = serve(lambda number, body: pairs_about(body))
    (papers / "bad.txt").write_bytes(b"\xff")
    assert "or leave it out with --on_bad_files skip" in failing(capsys, papers)[1]
    run(papers, "--on_bad_files=skip", "--max_passages=1")
    assert "left out: " in capsys.readouterr().err
    (papers / "bad.txt").unlink()
    assert "no passage of 1000 characters" in failing(capsys, papers, "--min_chars=1000")[1]
    assert (
        "/v1/none/chat/completions" in failing(capsys, papers, f"--base_url={server.url}/none")[1]
    )
    assert "base_url: is local, must" in failing(capsys, papers, "--base_url=local")[1]
    monkeypatch.delenv("OPENAI_MODEL")
    assert "give --model, or set OPENAI_MODEL" in failing(capsys, papers)[1]
    monkeypatch.delenv("OPENAI_BASE_URL")
    monkeypatch.delenv("OPENAI_API_KEY")
    assert "api_key: set OPENAI_API_KEY" in failing(capsys, papers, "--model=m")[1]
    asked = len(server.requests)
    status, said = failing(capsys, papers, "--pairs_per_passage=0")
    assert status == 2
    assert "pairs_per_passage: is 0, must be at least 1" in said
    said = failing(capsys, papers, "--max_chars=100", "--min_chars=200")[1]
    assert "min_chars: is 200, must be at most max_chars, 100" in said
    assert "timeout: is inf, must be" in failing(capsys, papers, "--timeout=.inf")[1]
    assert len(server.requests) == asked


def test_only_one_run_writes_an_output(
    serve: Callable[..., ChatServer], papers: Path, capsys: pytest.CaptureFixture[str]
) -> None:

    serve(lambda number, body: pairs_about(body))
    output = papers.parent / "made" / "pairs.jsonl"
    output.parent.mkdir()
    with FileLock(f"{output}.lock"):
        status, said = failing(capsys, papers)
    assert status == 1
    assert f"{output}: another run is writing it" in said
    run(papers)
    assert sorted(os.listdir(output.parent)) == ["pairs.jsonl", "pairs.jsonl.journal"]


def test_ctrl_c_says_how_to_resume(
    serve: Callable[..., ChatServer],
    papers: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    serve(lambda number, body: pairs_about(body))
    monkeypatch.setattr("embedft.generate.generate.ask_all", interrupted)
    with pytest.raises(SystemExit) as raised:
        run(papers)
    assert raised.value.code == 130
    said = capsys.readouterr().err
    assert said.endswith("embedft: stopped by SIGINT; run the same command to resume\n")
    assert os.listdir(papers.parent / "made") == ["pairs.jsonl.journal"]
