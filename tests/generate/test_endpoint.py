from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from chat_server import ChatServer, error, pairs_about
from generating import run

from embedft.errors import InputError
from embedft.generate.endpoint import Endpoint, read_key


def test_the_client_waits_for_retry_after(serve: Callable[..., ChatServer], papers: Path) -> None:
    server = serve(
        lambda number, body: pairs_about(body) if number else error(429, "wait", Retry_After="1")
    )
    run(papers, "--max_passages=1")
    assert server.times[1] - server.times[0] >= 1  # without the header it would be 0.5 at most


def test_requests_per_minute_also_limits_repeated_requests(
    serve: Callable[..., ChatServer], papers: Path
) -> None:
    server = serve(
        lambda number, body: pairs_about(body) if number else error(429, "", Retry_After="0.01")
    )
    run(papers, "--requests_per_minute=600", "--max_passages=6")
    assert len(server.times) == 7
    assert server.times[-1] - server.times[0] >= 6 * 0.1 - 0.05


def test_secrets_are_masked() -> None:
    assert read_key("sk-SECRET\r\n") == "sk-SECRET"
    assert read_key(" ") is None
    for key in ("sk-SEC\rRET", "sk-ſ"):
        with pytest.raises(InputError) as refused:
            read_key(key)
        assert key not in str(refused.value)
    endpoint = Endpoint("m", "http://me:PASSWORD@host/v1", "sk-SECRET", "text", 0, 1, 0)
    assert endpoint.url == "http://***@host/v1"
    said = endpoint.one_line(ValueError("key sk-SECRET at http://me:PASSWORD@host/v1 \x1b[2J"))
    assert said == "key *** at http://***@host/v1 \\x1b[2J"
