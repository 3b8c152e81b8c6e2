"""Hard negatives: wrong answers that the file names or a model mined, for rows and in a batch.

Shape suffixes: B rows of a batch on this rank, G rows of the batch on all ranks, N negatives a row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, from_numpy

from embedft.data.keys import Ints, Mask, repeats

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


class BatchNegatives(NamedTuple):
    """Which places of a batch's table of negatives are filled, and which count for whom.

    Attributes:
        places: (n,) int64, places in the flat (B·N) table of this rank's negatives, ascending; at
            the others there is none.
        present: (G, N) bool, the places of all ranks at which there is one.
        right: (2, E) int64, rows, and places in the flat (G·N) table of candidates that are right
            answers to the question of that row.
        all_wrong: Each place holds a wrong answer to each question.
    """

    places: Tensor
    present: Tensor
    right: Tensor
    all_wrong: bool

    @classmethod
    def of(
        cls,
        present_GN: Mask,
        keys_GN: Ints,
        positive_G: Ints,
        right: tuple[Ints, Ints],
        own: slice,
        in_rows: bool,
    ) -> BatchNegatives:
        """Finds them.

        Args:
            present_GN: Where a row of the batch has a negative.
            keys_GN: The negatives' keys.
            positive_G: Keys of the batch's positives.
            right: Rows of the batch and keys of right answers to their questions.
            own: This rank's rows.
            in_rows: A negative is one of its row. Else it is a candidate of all rows: each text
                once, and none that is a positive of the batch, which is a candidate already.
        """
        slots = np.flatnonzero(present_GN)
        keys = keys_GN.ravel()[slots]
        if not in_rows:
            once = ~repeats(np.concatenate([positive_G, keys]))[len(positive_G) :]
            slots, keys = slots[once], keys[once]
            present_GN = np.zeros_like(present_GN)
            present_GN.ravel()[slots] = True
        order = np.argsort(keys)
        row, key = right
        place = np.searchsorted(keys, key, sorter=order)
        found = place < len(keys)
        found[found] = keys[order[place[found]]] == key[found]
        pairs = np.stack([row[found], slots[order[place[found]]]])
        return cls(
            from_numpy(np.flatnonzero(present_GN[own])),
            from_numpy(present_GN),
            from_numpy(pairs),
            bool(present_GN.all()) and not pairs.size,
        )

    @property
    def wrong(self) -> Tensor | None:
        """(G, G, N) bool, [i, j, n]: negative n of row j is a wrong answer to row i's question.

        None where all are.
        """
        if self.all_wrong:
            return None
        rows = len(self.present)
        wrong = self.present.flatten().repeat(rows, 1)
        wrong[self.right[0], self.right[1]] = False
        return wrong.view(rows, *self.present.shape)
