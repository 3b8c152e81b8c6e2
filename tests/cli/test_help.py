"""What a newcomer reads first: one screen for each subcommand."""

from __future__ import annotations

import re

import pytest
from command_line import Capture, printed

from embedft.cli.flags import SHORT_FLAGS
from embedft.cli.help_pages import PAGES


@pytest.mark.parametrize(("columns", "lines"), [(80, 48), (100, 40)])
@pytest.mark.parametrize("name", PAGES)
def test_a_subcommands_help_is_one_screen(
    name: str, columns: int, lines: int, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    said = printed([name, "--help"], capsys)
    assert said.startswith(f"usage: python -m embedft {name} ")
    assert said.count("\n") <= lines
    assert not re.search(r"type:|\bnull\)|Literal|\{true,false\}", said)
    assert "\n  --quiet " in said
    assert said.count(f"\n  python -m embedft {name} ") >= 2
    assert "--input_jsonl" in said or name in {"export", "generate"}


def test_help_all_lists_every_setting(capsys: Capture) -> None:
    said = printed(["fit", "--help_all"], capsys)
    assert all(f"--{short} " in said and f"--{long}" in said for short, long in SHORT_FLAGS.items())
    assert "--trainer.accumulate_grad_batches" in said
    assert "--model.base_share" in said
    assert printed(["mine", "--help_all"], capsys) == printed(["mine", "--help"], capsys)


@pytest.mark.parametrize("name", [*PAGES, "fit --help_all"])
def test_help_has_no_markup(name: str, capsys: Capture) -> None:
    said = printed([*name.split(), "--help"][:2], capsys)
    assert "``" not in said
    if name == "search":
        assert "are read from the terminal. --model " in " ".join(said.split())
