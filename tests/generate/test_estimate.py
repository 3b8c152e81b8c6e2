from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from chat_server import ChatServer, pairs_about
from generating import run


def test_a_dry_run_asks_and_writes_nothing(
    serve: Callable[..., ChatServer],
    papers: Path,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = serve(lambda number, body: pairs_about(body))
    monkeypatch.delenv("OPENAI_API_KEY")
    prices = ["--input_price=1000000", "--output_price=0"]  # one a token
    output = run(papers, "--dry_run", *prices, "--requests_per_minute=4")
    said = capsys.readouterr().out
    assert "12 files, 12 passages" in said
    assert "2,880 out" in said
    assert "3 minutes at least" in said
    tokens = said[said.index("about ") :].split()[1]
    assert f"cost:     {tokens}.0000" in said
    run(papers, "--dry_run", f"--tokenizer={tiny_model}")
    assert f"by the tokenizer of {tiny_model}" in capsys.readouterr().out
    assert server.requests == []
    assert not output.parent.exists()
