"""A server with the part of the Hugging Face hub's API that an upload needs."""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_secret"


class HubServer:
    """Keeps repositories in memory until it is closed.

    Attributes:
        repos: By id: ``private``, and ``files`` by path.
        seen: Method and path of each request.
    """

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, Any]] = {}
        self.seen: list[str] = []
        self._stored: dict[str, bytes] = {}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self._answer(*hub._post(self.path, self._body(), self._may_write()))

            def do_GET(self) -> None:
                self._answer(*hub._get(self.path))

            def do_PUT(self) -> None:
                hub._stored[self.path.removeprefix("/store/")] = self._body()
                self._answer(200, {})

            def _may_write(self) -> bool:
                return self.headers.get("Authorization") == f"Bearer {TOKEN}"

            def _body(self) -> bytes:
                hub.seen.append(f"{self.command} {self.path}")
                if self.headers.get("Transfer-Encoding") == "chunked":
                    parts = []
                    while size := int(self.rfile.readline(), 16):
                        parts.append(self.rfile.read(size))
                        self.rfile.readline()
                    self.rfile.readline()
                    return b"".join(parts)
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))

            def _answer(self, status: int, content: Any) -> None:
                body = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                """Logs nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Stops listening."""
        self._server.shutdown()
        self._server.server_close()

    def _get(self, path: str) -> tuple[int, Any]:
        repo_id = path.removeprefix("/api/models/")
        if repo_id not in self.repos:
            return 404, {"error": "Repository not found"}
        return 200, {"id": repo_id, "private": self.repos[repo_id]["private"], "siblings": []}

    def _post(self, path: str, content: bytes, may_write: bool) -> tuple[int, Any]:
        if not may_write:
            return 401, {"error": "Invalid username or password."}
        if path == "/api/repos/create":
            asked = json.loads(content)
            repo_id = f"{asked.get('organization', 'me')}/{asked['name']}"
            url = {"url": f"{self.url}/{repo_id}"}
            if repo_id in self.repos:
                return 409, {"error": "You already created this model repo", **url}
            self.repos[repo_id] = {
                "private": asked.get("visibility") == "private" or bool(asked.get("private")),
                "files": {},
            }
            return 200, url
        if path == "/api/validate-yaml":
            text = json.loads(content)["content"]
            wrong = [{"message": "no metadata"}] if not text.startswith("---\n") else []
            return (400 if wrong else 200), {"errors": wrong, "warnings": []}
        if path.endswith("/preupload/main"):
            files = json.loads(content)["files"]
            return 200, {
                "files": [
                    {
                        "path": file["path"],
                        "shouldIgnore": False,
                        "uploadMode": "lfs"
                        if file["path"].endswith((".safetensors", ".onnx"))
                        else "regular",
                    }
                    for file in files
                ]
            }
        if path.endswith(".git/info/lfs/objects/batch"):
            objects = json.loads(content)["objects"]
            for item in objects:
                item["actions"] = {"upload": {"href": f"{self.url}/store/{item['oid']}"}}
            return 200, {"transfer": "basic", "objects": objects}
        if path.endswith("/commit/main"):
            repo_id = path.removeprefix("/api/models/").removesuffix("/commit/main")
            files = self.repos[repo_id]["files"]
            for line in content.splitlines():
                entry = json.loads(line)
                value = entry["value"]
                if entry["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                if entry["key"] == "lfsFile":
                    files[value["path"]] = self._stored[value["oid"]]
            commit = f"{self.url}/{repo_id}/commit/{'0' * 40}"
            return 200, {"success": True, "commitOid": "0" * 40, "commitUrl": commit}
        return 404, {"error": f"no {path}"}
