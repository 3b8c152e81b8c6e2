from __future__ import annotations

from pathlib import Path

import pytest

from embedft.table.settings import ReadSettings, default_cache_dir


def test_the_digest_is_that_of_checkpoints_and_caches_so_far() -> None:
    """A checkpoint keeps it: another one would refuse to resume every older run."""
    settings = ReadSettings("{}", 24, documents="both", query_prompt="query: ", negatives=True)
    assert settings.digest() == "6c10e76f7870823f6bc607ff"


def test_the_cache_is_in_the_folder_of_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert default_cache_dir() == Path("/caches/embedft/tokens")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_dir() == Path.home() / ".cache/embedft/tokens"
