from __future__ import annotations

import sys

import pytest

from embedft.tools.progress import progress, set_quiet, shows_bars


def test_a_notebook_counts_as_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not shows_bars()
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    assert shows_bars()
    set_quiet(True)
    try:
        assert not shows_bars()
    finally:
        set_quiet(False)


def test_a_bar_passes_on_its_items_and_can_be_updated() -> None:
    assert list(progress(range(3))) == [0, 1, 2]
    with progress(total=2) as bar:
        bar.update(1)
