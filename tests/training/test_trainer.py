from __future__ import annotations

from pathlib import Path

import pytest

from embedft.errors import RunFailedError
from embedft.run.checkpoints import copy_checkpoint


def test_a_copy_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    best, last = tmp_path / "best.ckpt", tmp_path / "last.ckpt"
    last.write_bytes(b"earlier")
    with pytest.raises(RunFailedError, match=r"last.ckpt: can't be written.*No such file"):
        copy_checkpoint(best, last)
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]
    assert last.read_bytes() == b"earlier"
    best.write_bytes(b"later")
    copy_checkpoint(best, last)
    best.write_bytes(b"no longer the same")
    assert last.read_bytes() == b"later"
