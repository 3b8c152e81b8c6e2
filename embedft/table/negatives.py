"""Hard negatives: wrong answers that the file names or that a model mined."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedft.table.keys import Ints, Mask

N_MINED = 4
"""Hard negatives that are mined for each pair; each epoch takes the next ones of the list."""


@dataclass(frozen=True, slots=True)
class Negatives:
    """The negatives of rows or pairs, grouped by row.

    Attributes:
        text: (total,) int64, index of each text.
        key: (total,) equal if two normalised texts are equal: hashes in a table, ids among pairs.
        offsets: (rows + 1,) int64; the negatives of row i are ``text[offsets[i]:offsets[i + 1]]``.
    """

    text: Ints
    key: NDArray[Any]
    offsets: Ints

    @classmethod
    def of_pairs(cls, mined_RN: Ints, text: Ints, key: NDArray[Any]) -> Negatives:
        """Negatives that are positives of other rows.

        Args:
            mined_RN: (rows, N) the rows whose positives they are, -1 for none.
            text: (rows,) text of each row's positive.
            key: (rows,) its key.
        """
        exists = mined_RN >= 0
        offsets = np.append(0, np.cumsum(exists.sum(axis=1)))
        return cls(text[mined_RN[exists]], key[mined_RN[exists]], offsets)

    @property
    def counts(self) -> Ints:
        """(rows,) number of negatives of each row."""
        return np.diff(self.offsets)

    @property
    def owner(self) -> Ints:
        """(total,) the row of each negative."""
        return np.repeat(np.arange(len(self.offsets) - 1), self.counts)

    def of(self, rows: Ints) -> Negatives:
        """The negatives of these rows, in their order."""
        counts = self.counts[rows]
        offsets = np.append(0, np.cumsum(counts))
        index = np.repeat(self.offsets[rows] - offsets[:-1], counts) + np.arange(offsets[-1])
        return Negatives(self.text[index], self.key[index], offsets)

    def only(self, keep: Mask) -> Negatives:
        """The negatives that a (total,) mask keeps."""
        counts = np.bincount(self.owner[keep], minlength=len(self.offsets) - 1)
        return Negatives(self.text[keep], self.key[keep], np.append(0, np.cumsum(counts)))

    def with_keys(self, key: Ints) -> Negatives:
        """The same negatives with other keys."""
        return replace(self, key=key)

    def of_epoch(self, rows: Ints, count: int, epoch: int) -> tuple[Ints, Ints]:
        """``count`` negatives of each row; each epoch takes the next ones of the list, cyclically.

        Returns:
            (rows, count) int64, their texts and keys; -1 and 0 if a row has fewer.
        """
        have = self.counts[rows, None]
        index = (epoch * count + np.arange(count)) % np.maximum(have, 1)
        exists = np.arange(count) < have
        index = np.where(exists, self.offsets[rows, None] + index, 0)
        return np.where(exists, self.text[index], -1), np.where(exists, self.key[index], 0)
