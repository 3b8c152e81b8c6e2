"""A server with the chat completions of the OpenAI API; it can fail as real ones do."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, dict[str, str], str]  # status, headers, body


def completion(content: str | None, **more: Any) -> Reply:
    """An answer with this text, in the form of the API."""
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": content},
            }
        ],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
    }
    return 200, {}, json.dumps(body | more)


def pairs_about(body: dict[str, Any]) -> Reply:
    """A good pair about each of the first sentences of the passage that was sent."""
    passage = passage_of(body)
    sentences = [text for text in re.split(r"(?<=[.。])\s+", passage) if len(text) > 20][:2]
    pairs = [{"question": f"What is known of {s[:25]}?", "answer": s} for s in sentences]
    return completion(json.dumps({"pairs": pairs}, ensure_ascii=False))


def passage_of(body: dict[str, Any]) -> str:
    """The passage inside a request."""
    found = re.search(r"<passage>\n(.*)\n</passage>", body["messages"][1]["content"], re.DOTALL)
    assert found is not None
    return found[1]


def error(status: int, message: str, **headers: str) -> Reply:
    """An error in the form of the API."""
    return status, headers, json.dumps({"error": {"message": message, "type": "x", "code": None}})


class ChatServer:
    """Answers on 127.0.0.1 until it is closed.

    Args:
        answer: Makes the reply from a request's number, counted from 0, and its body. None drops the
            connection.
    """

    def __init__(self, answer: Callable[[int, dict[str, Any]], Reply | None]) -> None:
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.times: list[float] = []
        lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    number = len(server.requests)
                    server.requests.append(body)
                    server.keys.append(self.headers.get("Authorization"))
                    server.times.append(time.monotonic())
                reply = answer(number, body)
                if self.path != "/v1/chat/completions":
                    reply = error(404, f"no {self.path}")
                if reply is None:
                    self.close_connection = True
                    return
                status, headers, text = reply
                content = text.encode()
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: object) -> None:
                """Logs nothing."""

        class Server(ThreadingHTTPServer):
            def handle_error(self, *args: object) -> None:
                """Ignores clients that have closed the connection."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Stops listening."""
        self._server.shutdown()
        self._server.server_close()
