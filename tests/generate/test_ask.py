from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chat_server import ChatServer, Reply, completion, error, pairs_about
from generating import KEY, failing, rows_of, run


def test_requests_are_repeated_after_faults(
    serve: Callable[..., ChatServer], papers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Too many requests, faults, drops, slow and unreadable answers: all is asked again."""
    trouble: list[Reply | None] = [
        error(429, "slow down", Retry_After="0.01"),
        error(503, "busy", Retry_After="0.01"),
        None,
        completion("I can't do that."),
        (200, {}, '{"id": "chatcmpl-1", "choi'),
        completion(None),
        (200, {"Content-Type": "text/html"}, "<html>login</html>"),
        completion("", choices=[]),
    ]

    def answer(number: int, body: dict[str, Any]) -> Reply | None:
        if number == 16:
            time.sleep(1.5)  # longer than the time-out
        place, odd = divmod(number, 2)
        return pairs_about(body) if odd or place >= len(trouble) else trouble[place]

    server = serve(answer)
    output = run(papers, "--timeout=1", "--concurrency=1")
    assert len(server.requests) == 12 + 9
    assert len({row["file_name"] for row in rows_of(output)}) == 12
    assert "12 of 12 passages" in capsys.readouterr().out


def test_refused_pairs_are_counted_and_not_asked_for_again(
    serve: Callable[..., ChatServer], papers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = completion(json.dumps({"pairs": [{"question": "What?", "answer": "Nothing."}]}))
    server = serve(lambda number, body: pairs_about(body) if "Cell 3 " in str(body) else bad)
    run(papers)
    said = capsys.readouterr().out
    assert "refused: 11 (no question 11)" in said
    run(papers)
    assert len(server.requests) == 12


def test_an_endpoint_that_refuses_ends_the_run(
    serve: Callable[..., ChatServer], papers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that names the reason and never the key; nothing is asked for long."""
    server = serve(lambda number, body: error(401, f"Incorrect API key provided: {KEY}"))
    status, said = failing(capsys, papers)
    assert status == 1
    assert "Incorrect API key provided: ***" in said
    assert len(server.requests) < 12

    server = serve(lambda number, body: error(400, "'response_format.type' must be 'text'"))
    assert "try --response_format json_schema, or text" in failing(capsys, papers)[1]

    server = serve(lambda number, body: error(400, "too long"))
    assert "5 passages failed in a row" in failing(capsys, papers, "--concurrency=1")[1]
    assert len(server.requests) in {5, 6}

    server.close()
    flags = ["--concurrency=1", "--max_retries=0"]
    said = failing(capsys, papers, *flags)[1]
    assert f"{server.url}: Connection error" in said
    assert "is the server up?" in said


def test_failed_passages_are_asked_about_again(
    serve: Callable[..., ChatServer], papers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sick = True

    def answer(number: int, body: dict[str, Any]) -> Reply:
        if sick and "Cell 3 " in str(body):
            return error(400, "content\nfilter")
        return pairs_about(body)

    server = serve(answer)
    status, said = failing(capsys, papers)
    assert status == 1
    assert "1 passages failed: paper-03.txt#p1: " in said
    assert "content" in said
    sick = False
    output = run(papers)
    assert len(server.requests) == 13
    files = [row["file_name"] for row in rows_of(output)]
    assert files == sorted(files)  # in the order of the folder, not of the answers
