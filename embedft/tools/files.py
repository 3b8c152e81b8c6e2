"""Atomic writing: no incomplete file or folder ever has its final name."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from embedft.errors import RunFailedError
from embedft.tools.text import error_line

_FULL = {errno.ENOSPC, errno.EFBIG, errno.EIO, errno.EDQUOT}
# How NumPy, safetensors, torch and faiss say it; their errors have no number.
_FULL_IN_WORDS = re.compile(
    r"No space left|File too large|os error (28|27|5|122)\b|requested and \d+ written|"
    r"PytorchStreamWriter|unexpected pos"
)


@contextmanager
def naming_file(path: Path) -> Iterator[None]:
    """Turns the error of a full disk into one line that names the file.

    Raises:
        RunFailedError: The file can't be written for want of space, or because the disk is broken.
    """
    try:
        yield
    except Exception as error:
        full = isinstance(error, OSError) and error.errno in _FULL
        if not full and not _FULL_IN_WORDS.search(str(error)):
            raise
        if isinstance(error, RunFailedError):  # names a file already
            raise
        raise unwritable(path, error) from None


def unwritable(path: Path, error: Exception) -> RunFailedError:
    """The error of a file that can't be written, with the reason."""
    reason = error_line(error, first_line=True)
    return RunFailedError(f"{path}: can't be written, is there space left? ({reason})")


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path; if no error occurs, its file replaces ``path``, durably."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.writing-{os.getpid()}")
    try:
        with naming_file(path):
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
        with naming_file(path):
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


def checksum(path: Path) -> int:
    """CRC-32 of a file: finds damage by chance, not by intent. Reads about 1 GB a second."""
    value = 0
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            value = zlib.crc32(piece, value)
    return value


def sync_files(folder: Path) -> None:
    """Makes the files directly in a folder survive a power failure."""
    for path in folder.iterdir():
        if path.is_file():
            with path.open("rb+") as stream:
                os.fsync(stream.fileno())


def reserve(path: Path, n_bytes: int) -> None:
    """Makes a file of this size, whose pages are on the disk before they are mapped into memory.

    Without it a full disk ends the process by a signal as soon as a page is written.

    Raises:
        OSError: There is no space; names the file.
    """
    with path.open("wb") as stream:
        try:
            if hasattr(os, "posix_fallocate") and n_bytes:
                os.posix_fallocate(stream.fileno(), 0, n_bytes)
            stream.truncate(n_bytes)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from None


def write_json(path: Path, content: Any) -> None:
    """Writes indented JSON, atomically."""
    with replacing_file(path) as temporary:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def numbered_files(folder: Path, stem: str, suffix: str) -> dict[int, Path]:
    """The files of a folder whose name is stem, number, suffix; by number."""
    name = re.compile(rf"{re.escape(stem)}(\d+){re.escape(suffix)}")
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
