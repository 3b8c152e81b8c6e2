"""CONTRIBUTING and docs/architecture.md name files that exist and the import order that is checked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.docs

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_every_path_exists() -> None:
    paths = re.findall(r"`([\w./-]*/[\w./-]*|[\w-]+\.(?:md|toml|txt|yml))`", PAGE + ARCHITECTURE)
    assert len(paths) > 40
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_names_in_the_table_exist() -> None:
    for path, name in re.findall(r"`(embedft/[\w/]+\.py)`[^|;\n]*`([A-Z]+)`", PAGE):
        assert re.search(rf"^{name}\b", (ROOT / path).read_text(encoding="utf-8"), re.M), name


def test_one_row_is_one_short_paragraph() -> None:
    heading = "## Follow one row from the file to the model\n"
    paragraph = ARCHITECTURE.partition(heading)[2].partition("\n## ")[0]
    assert paragraph
    assert len(paragraph.split()) < 200


def test_the_import_order_is_the_one_that_is_checked() -> None:
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    layers = re.findall(r'"(.+)"', settings.partition("\nlayers = [\n")[2].partition("]")[0])
    assert layers[0] == "__main__"
    assert "\n".join(f"    {layer}" for layer in layers) + "\n\n" in ARCHITECTURE
