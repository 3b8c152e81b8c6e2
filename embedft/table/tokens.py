"""The token ids of all texts: memory-mapped, packed into batches on demand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedft.table.keys import Ints, Mask


class Ids(Protocol):
    """(total,) token ids, read by their indices."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Ints, /) -> NDArray[np.generic]: ...


class MappedIds:
    """Ids in a file, mapped into memory: all ranks and workers of a host share its pages.

    A process started by ``spawn`` gets the path, not the ids.

    Args:
        path: File that holds only ids.
        dtype: Their type.
    """

    def __init__(self, path: Path, dtype: str) -> None:
        self.path, self.dtype = path, dtype
        self._ids = np.asarray(np.memmap(path, dtype=dtype, mode="r"))

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: Ints, /) -> NDArray[np.generic]:
        return self._ids[index]

    def __reduce__(self) -> tuple[type[MappedIds], tuple[Path, str]]:
        return MappedIds, (self.path, self.dtype)


class JoinedIds:
    """The ids of one file after those of another."""

    def __init__(self, first: Ids, second: Ids) -> None:
        self.first, self.second = first, second

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def __getitem__(self, index: Ints, /) -> NDArray[np.generic]:
        in_first = index < len(self.first)
        ids = np.empty(len(index), dtype=np.int64)
        ids[in_first] = self.first[index[in_first]]
        ids[~in_first] = self.second[index[~in_first] - len(self.first)]
        return ids


def distinct_texts(*columns: Ints) -> Ints:
    """(texts,) the distinct texts of the columns, ascending; -1 in a column is no text."""
    used = np.zeros(1 + max(int(column.max(initial=-1)) for column in columns), dtype=np.bool_)
    for column in columns:
        used[column[column >= 0]] = True
    return np.flatnonzero(used)


def describe_truncation(max_seq_length: int, shares: Mapping[str, float]) -> str:
    """Says which share of the distinct texts is cut.

    Args:
        max_seq_length: Maximum tokens per text.
        shares: The share of the longer texts, from 0 to 1, by kind of text.
    """
    parts = (f"{share:.1%} of the {name}" for name, share in shares.items())
    return f"max_seq_length {max_seq_length} cuts {' and '.join(parts)}"


@dataclass(frozen=True, slots=True)
class TokenStore:
    """The token ids of a table of texts.

    Attributes:
        ids: (total,) the ids of all texts one after the other, special tokens included.
        offsets: (texts + 1,) int64; text i is ``ids[offsets[i]:offsets[i + 1]]``.
        cut: (texts,) bool, whether the text was longer than ``max_seq_length``.
        fingerprint: Hash of the texts, the tokenizer and ``max_seq_length``.
    """

    ids: Ids
    offsets: Ints
    cut: Mask
    fingerprint: str

    def lengths(self, texts: Ints) -> Ints:
        """(texts,) int64, tokens per text."""
        return self.offsets[texts + 1] - self.offsets[texts]

    def pack(self, texts: Ints) -> tuple[Tensor, Tensor]:
        """Texts in packed form: ids (T,) int64 and lengths (texts,) int64."""
        lengths = self.lengths(texts)
        ends = np.cumsum(lengths)
        shift = np.repeat(self.offsets[texts] - (ends - lengths), lengths)
        flat = self.ids[shift + np.arange(len(shift))]
        return torch.from_numpy(flat.astype(np.int64)), torch.from_numpy(lengths)

    def joined(self, other: TokenStore) -> TokenStore:
        """A store with the texts of another after those of this one."""
        return TokenStore(
            JoinedIds(self.ids, other.ids),
            np.concatenate([self.offsets, other.offsets[1:] + len(self.ids)]),
            np.concatenate([self.cut, other.cut]),
            f"{self.fingerprint}+{other.fingerprint}",
        )
