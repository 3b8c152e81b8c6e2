from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import sample_rows, write_jsonl

from embedft.errors import InputError
from embedft.table.settings import ReadSettings
from embedft.table.table import read_table
from embedft.table.workers import read_blocks


def test_a_worker_imports_nothing_from_the_folder_it_runs_in(
    tmp_path: Path, settings: ReadSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pickle", "numpy", "embedft"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    path = str(write_jsonl(tmp_path / "pairs.jsonl", sample_rows()))
    assert len(read_table(path, settings, None, block_bytes=3000, workers=2)) == len(sample_rows())


def test_a_worker_that_dies_is_named(settings: ReadSettings) -> None:
    broken = replace(settings, tokenizer="{}")
    with pytest.raises(RuntimeError, match="a process that reads the input ended with status 1"):
        list(read_blocks([b'{"question": "q", "answer": "a"}\n'], broken, 2))


def test_a_worker_that_is_killed_is_one_line(settings: ReadSettings) -> None:
    def blocks() -> Iterator[bytes]:
        yield b'{"question": "q", "answer": "a"}\n'
        children = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text()
        for child in children.split():
            os.kill(int(child), signal.SIGKILL)
        yield b'{"question": "r", "answer": "b"}\n'

    with pytest.raises(InputError, match="was killed: out of memory?"):
        list(read_blocks(blocks(), settings, 1))
