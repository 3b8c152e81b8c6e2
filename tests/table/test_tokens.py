from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np

from embedft.table.tokens import MappedIds, TokenStore

LENGTHS = np.array([2, 0, 5, 1, 3])
IDS = np.arange(11, dtype=np.uint16)


def store(ids: object = IDS) -> TokenStore:
    offsets = np.concatenate([[0], np.cumsum(LENGTHS)])
    return TokenStore(ids, offsets, LENGTHS > 2, "f")  # type: ignore[arg-type]


def test_pack() -> None:
    ids, lengths = store().pack(np.array([4, 0, 4, 1, 2]))
    assert ids.tolist() == [8, 9, 10, 0, 1, 8, 9, 10, 2, 3, 4, 5, 6]
    assert lengths.tolist() == [3, 2, 3, 0, 5]
    assert str(ids.dtype) == str(lengths.dtype) == "torch.int64"


def test_lengths() -> None:
    assert store().lengths(np.array([2, 0])).tolist() == [5, 2]


def test_joined_stores_number_their_texts_on() -> None:
    joined = store().joined(store(IDS.astype(np.int32) + 70_000))
    ids, lengths = joined.pack(np.array([9, 0, 5]))
    assert ids.tolist() == [70_008, 70_009, 70_010, 0, 1, 70_000, 70_001]
    assert lengths.tolist() == [3, 2, 2]
    assert joined.cut.tolist() == [False, False, True, False, True] * 2
    assert joined.fingerprint == "f+f"
    assert len(joined.ids) == 22


def test_a_process_gets_the_path_of_the_ids_and_not_the_ids(tmp_path: Path) -> None:
    IDS.tofile(tmp_path / "ids.bin")
    mapped = MappedIds(tmp_path / "ids.bin", "<u2")
    sent = pickle.dumps(mapped)
    assert IDS.tobytes() not in sent
    assert pickle.loads(sent)[np.array([3, 3, 10])].tolist() == [3, 3, 10]
