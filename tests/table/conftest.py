from __future__ import annotations

import pytest
import tiny
from transformers import AutoTokenizer

from embedft.table.settings import ReadSettings


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> ReadSettings:
    tokenizer = AutoTokenizer.from_pretrained(
        tiny.build_plain(tmp_path_factory.mktemp("model") / "bert")
    )
    return ReadSettings(tokenizer.backend_tokenizer.to_str(), 24, documents="both", negatives=True)
