from __future__ import annotations

from pathlib import Path

import pytest
from loaded_data import loaded

from embedft.data.texts import query_rows
from embedft.encoder.encoder import Encoder
from embedft.errors import InputError


@pytest.mark.parametrize("change", ["", "first", "last"])
def test_a_file_that_changed_is_not_read_again(pairs: Path, encoder: Encoder, change: str) -> None:
    data = loaded(pairs, encoder)
    lines = pairs.read_bytes().splitlines(keepends=True)
    names = [row.id for row in query_rows(data)]
    assert len(set(names)) == 5
    changed = {"": [], "first": lines[1:] + lines[:1], "last": lines[:-1]}[change]
    pairs.write_bytes(b"".join(changed))
    with pytest.raises(InputError, match="pairs.jsonl: changed during the run"):
        query_rows(data)
