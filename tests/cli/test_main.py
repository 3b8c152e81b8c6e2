"""Subcommands, ``--version`` and ``help``."""

from __future__ import annotations

import pytest
from command_line import Capture, printed

from embedft.cli.help_pages import PAGES
from embedft.cli.main import main
from embedft.tools.device import out_of_memory


@pytest.mark.parametrize("args", [[], ["--help"], ["-h"], ["--quiet"]])
def test_the_list_of_subcommands(args: list[str], capsys: Capture) -> None:
    said = printed(args, capsys)
    assert all(f"\n  {name} " in said for name in PAGES)
    assert said.count("\n") < 40


def test_version(capsys: Capture) -> None:
    main(["--version"])
    assert capsys.readouterr().out == "embedft 0.1.0\n"


def test_help_is_also_a_subcommand(capsys: Capture) -> None:
    assert printed(["help"], capsys) == printed(["--help"], capsys)
    for name in ("fit", "search"):
        assert printed(["help", name], capsys) == printed([name, "--help"], capsys)


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("could not create a primitive"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_out_of_memory_is_told_from_other_errors(error: Exception, is_memory: bool) -> None:
    assert out_of_memory(error) is is_memory
