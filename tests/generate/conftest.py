from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chat_server import ChatServer, Reply
from generating import KEY


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ChatServer]]:
    """Starts a server, and names it in the environment."""
    servers = []

    def start(answer: Callable[[int, dict[str, Any]], Reply | None]) -> ChatServer:
        servers.append(ChatServer(answer))
        monkeypatch.setenv("OPENAI_BASE_URL", servers[-1].url)
        monkeypatch.setenv("OPENAI_MODEL", "small")
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def papers(tmp_path: Path) -> Path:
    """Twelve texts of a passage each, one of them in a subfolder and in Chinese."""
    folder = tmp_path / "papers"
    (folder / "sub").mkdir(parents=True)
    for number in range(11):
        text = f"Cell {number} kept {90 - number}% of its capacity after 200 cycles. "
        (folder / f"paper-{number:02}.txt").write_text(text + "It was charged at 25 °C each time.")
    (folder / "sub" / "电池.txt").write_text(
        "硅负极在锂化时膨胀约百分之三百并破裂，容量随之下降。" * 3
    )
    return folder
