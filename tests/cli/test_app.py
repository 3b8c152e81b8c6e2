from __future__ import annotations

import pytest

from embedft.cli.app import EmbedftCLI
from embedft.cli.help_pages import TRAINER_PAGES


@pytest.mark.parametrize("wanted", [[], ["fit"], ["test", "check"]])
def test_only_the_parsers_that_are_needed_are_made(wanted: list[str]) -> None:
    """Each takes a tenth of a second; completion has no settings for any and gets all."""
    cli = EmbedftCLI.__new__(EmbedftCLI)
    cli.parser_kwargs = {"prog": "embedft", **{name: {} for name in wanted}}
    assert cli.subcommands().keys() == set(wanted or TRAINER_PAGES)
