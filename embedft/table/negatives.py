"""Hard negatives: wrong answers that the file names or a model mined."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedft.table.keys import Ints, Mask

MINED = 4
"""Hard negatives that are mined a pair; each epoch goes on in the list."""


@dataclass(frozen=True, slots=True)
class Negatives:
    """The negatives of some rows, those of one row together.

    Attributes:
        text: (total,) int64 which text each is.
        key: (total,) keys, or codes, equal where two are the same text (normalised).
        offsets: (rows + 1,) int64, those of row i lie at ``text[offsets[i]:offsets[i + 1]]``.
    """

    text: Ints
    key: NDArray[Any]
    offsets: Ints

    @classmethod
    def of_pairs(cls, found_RN: Ints, text: Ints, key: NDArray[Any]) -> Negatives:
        """Those that are positives of other rows.

        Args:
            found_RN: (rows, N) whose, -1 for none.
            text: (rows,) text of each row's positive.
            key: (rows,) its key.
        """
        some = found_RN >= 0
        offsets = np.append(0, np.cumsum(some.sum(axis=1)))
        return cls(text[found_RN[some]], key[found_RN[some]], offsets)

    @property
    def counts(self) -> Ints:
        """(rows,) how many each row has."""
        return np.diff(self.offsets)

    @property
    def owner(self) -> Ints:
        """(total,) the row that each is of."""
        return np.repeat(np.arange(len(self.offsets) - 1), self.counts)

    def of(self, rows: Ints) -> Negatives:
        """Those of some rows, in their order."""
        counts = self.counts[rows]
        offsets = np.append(0, np.cumsum(counts))
        places = np.repeat(self.offsets[rows] - offsets[:-1], counts) + np.arange(offsets[-1])
        return Negatives(self.text[places], self.key[places], offsets)

    def only(self, keep: Mask) -> Negatives:
        """Those that a (total,) mask keeps."""
        counts = np.bincount(self.owner[keep], minlength=len(self.offsets) - 1)
        return Negatives(self.text[keep], self.key[keep], np.append(0, np.cumsum(counts)))

    def with_keys(self, key: Ints) -> Negatives:
        """The same under other keys."""
        return replace(self, key=key)

    def turn(self, rows: Ints, count: int, epoch: int) -> tuple[Ints, Ints]:
        """Some negatives of some rows; each epoch goes on in a row's list, and round again.

        Returns:
            (rows, count) int64, their texts and keys; -1 and 0 where a row has fewer.
        """
        have = self.counts[rows, None]
        places = (epoch * count + np.arange(count)) % np.maximum(have, 1)
        some = np.arange(count) < have
        places = np.where(some, self.offsets[rows, None] + places, 0)
        return np.where(some, self.text[places], -1), np.where(some, self.key[places], 0)
