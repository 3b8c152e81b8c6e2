from __future__ import annotations

from pathlib import Path

import pytest

from embedft.encoder.encoder import Encoder


@pytest.fixture(scope="module")
def encoder(tiny_model: Path) -> Encoder:
    return Encoder(str(tiny_model))
