"""Hooks for the documentation site: three generated pages, and formulas.

README.md, CONTRIBUTING.md and the output of ``--help`` become pages. Formulas become MathML, which
browsers show without a script.
"""

from __future__ import annotations

import contextlib
import html
import io
import os
import re
from pathlib import Path
from unittest.mock import patch

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = {"index.md": "README.md", "contributing.md": "CONTRIBUTING.md"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages."""
    made = {
        name: (ROOT / source).read_text(encoding="utf-8").replace("](docs/", "](")
        for name, source in PAGES.items()
    }
    made["command-line.md"] = _command_line()
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Replaces links to files of the root, as GitHub follows them, by links to their pages."""
    for name, source in PAGES.items():
        markdown = re.sub(rf"\]\((\.\./)?{source}", f"]({name}", markdown)
    return markdown


def on_page_content(html: str, **_: object) -> str:
    """Replaces the formulas of a page by MathML."""
    return re.sub(
        r'<(div|span) class="arithmatex">\\[\[(](.*?)\\[\])]</\1>', _mathml, html, flags=re.DOTALL
    )


def _mathml(found: re.Match[str]) -> str:
    kind, latex = found.groups()
    display = "block" if kind == "div" else "inline"
    return f"<{kind}>{convert(html.unescape(latex), display=display)}</{kind}>"


def _command_line() -> str:
    """The help of each subcommand, and all settings of ``fit``."""
    from embedft.cli.help import PROG
    from embedft.cli.help_pages import PAGES

    lines = ["# Command line", "", "What `--help` prints.", "", *_block(_printed(["--help"]))]
    for name in PAGES:
        lines += [f"## {name}", "", *_block(_printed([name, "--help"]))]
        if name == "fit":
            lines += [
                "### All settings",
                "",
                f"`{PROG} fit --help_all`; those of `validate`, `test`, `predict` and `check` "
                "are almost the same.",
                "",
                *_block(_printed(["fit", "--help_all"])),
            ]
    return "\n".join(lines)


def _printed(arguments: list[str]) -> str:
    from embedft.cli.main import main

    with (
        patch.dict(os.environ, COLUMNS="100"),
        contextlib.redirect_stdout(io.StringIO()) as printed,
        contextlib.suppress(SystemExit),
    ):
        main(arguments)
    return printed.getvalue().strip()


def _block(text: str) -> list[str]:
    return ["```text", *text.splitlines(), "```", ""]
