from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from embedft.errors import RunFailedError
from embedft.tools.files import (
    naming_file,
    numbered_files,
    replacing_file,
    replacing_folder,
    reserve,
    write_json,
)


def test_a_file_is_replaced_only_without_an_error(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    with replacing_file(path) as temporary:
        temporary.write_text("first")
        assert not path.exists()
    assert path.read_text() == "first"

    def fail() -> None:
        with replacing_file(path) as temporary:
            temporary.write_text("second")
            raise ValueError("full")

    with pytest.raises(ValueError, match="full"):
        fail()
    assert path.read_text() == "first"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    for name in ("first", "second"):
        with replacing_folder(path) as temporary:
            (temporary / name).write_text(name)
            assert not (path / name).exists()
    assert [file.name for file in path.iterdir()] == ["second"]

    def fail() -> None:
        with replacing_folder(path) as temporary:
            (temporary / "third").write_text("third")
            raise ValueError("full")

    with pytest.raises(ValueError, match="full"):
        fail()
    assert [file.name for file in path.iterdir()] == ["second"]
    assert list(tmp_path.iterdir()) == [path]


def test_folders_have_the_permissions_of_the_umask(tmp_path: Path) -> None:
    """Not those of a temporary folder, which only its owner can read."""
    umask = os.umask(0o027)
    try:
        with replacing_folder(tmp_path / "folder") as temporary:
            (temporary / "file").touch(0o600)
    finally:
        os.umask(umask)
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "folder" / "file").stat().st_mode & 0o777 == 0o640


def test_a_link_stays_and_its_folder_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link"
    link.symlink_to("real")
    with replacing_folder(link) as temporary:
        (temporary / "file").write_text("new")
    assert link.is_symlink()
    assert (tmp_path / "real" / "file").read_text() == "new"


def test_json_without_nan(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_json(path, {"name": "Grün"})
    assert "Grün" in path.read_text("utf-8")
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"loss": float("nan")})
    assert json.loads(path.read_text("utf-8")) == {"name": "Grün"}


def test_numbered_files(tmp_path: Path) -> None:
    for name in ("step-2.ckpt", "step-10.ckpt", "step-x.ckpt", "step-3.txt", "astep-4.ckpt"):
        (tmp_path / name).touch()
    assert numbered_files(tmp_path, "step-", ".ckpt") == {
        2: tmp_path / "step-2.ckpt",
        10: tmp_path / "step-10.ckpt",
    }


def test_space_is_reserved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reserve(tmp_path / "a", 8192)
    assert (tmp_path / "a").stat().st_blocks * 512 >= 8192, "on the disk, not a hole"

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left on device: .*/b"):
        reserve(tmp_path / "b", 8192)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EFBIG, "File too large"),
        OSError("3840 requested and 992 written"),  # NumPy
        ValueError("I/O error: No space left on device (os error 28)"),  # safetensors
        RuntimeError("PytorchStreamWriter failed writing file data/1"),
        RuntimeError(
            "Error: 'ret' failed: write error in x: 1 != 2 (No space left on device)"
        ),  # faiss
    ],
)
@pytest.mark.parametrize("replacing", [replacing_file, replacing_folder])
def test_a_full_disk_names_the_file(
    error: Exception, replacing: Callable[[Path], AbstractContextManager[Path]], tmp_path: Path
) -> None:
    with (
        pytest.raises(
            RunFailedError, match=f"{tmp_path}/x: can't be written, is there space left?"
        ),
        replacing(tmp_path / "x"),
    ):
        raise error
    assert list(tmp_path.iterdir()) == []


def test_other_errors_stay(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), naming_file(tmp_path):
        raise PermissionError(errno.EACCES, "no")
