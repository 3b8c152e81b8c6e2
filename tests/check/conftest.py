from __future__ import annotations

from pathlib import Path

import pytest
from check_output import Flags


@pytest.fixture
def small(tiny_model: Path) -> Flags:
    """What makes a check fast, and the same on every machine."""
    return [f"--base_model={tiny_model}", "--accelerator=cpu", "--precision=32-true"]
