"""Atomic writing: no incomplete file or folder ever has its final name."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path; if no error occurs, its file replaces ``path``, durably."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.writing-{os.getpid()}")
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder; if no error occurs, it replaces ``path``, durably."""
    path = path.resolve()  # follows a link, and gives "." a name
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.writing-"))
    temporary.chmod(0o777 & ~_umask())  # mkdtemp makes it private
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                file.chmod(0o666 & ~_umask())  # some writers make files private
                with file.open("rb+") as stream:
                    os.fsync(stream.fileno())
        if path.exists():
            earlier = path.with_name(f".{path.name}.earlier-{os.getpid()}")
            os.replace(path, earlier)
            os.replace(temporary, path)
            shutil.rmtree(earlier)
        else:
            os.replace(temporary, path)
        sync_folder(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: Path, content: Any) -> None:
    """Writes indented JSON, atomically."""
    with replacing_file(path) as temporary:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def numbered_files(folder: Path, stem: str, suffix: str) -> dict[int, Path]:
    """The files of a folder whose name is stem, number, suffix; by number."""
    name = re.compile(f"{re.escape(stem)}(\\d+){re.escape(suffix)}")
    return {
        int(match[1]): path
        for path in folder.glob(f"{stem}*{suffix}")
        if (match := name.fullmatch(path.name))
    }


def sync_folder(folder: Path) -> None:
    """Makes a rename in the folder survive a power failure, if the system supports it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows can't open folders
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
