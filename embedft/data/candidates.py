"""The candidates of a batch's questions, and which of them count for which question.

Shape suffixes: B rows of a batch on this rank, G rows of the batch on all ranks, N negatives a row,
C = G + G·N candidates: the positives of the rows, then the table of negatives, row by row.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, from_numpy

from embedft.data.pairs import TrainRows
from embedft.table.keys import Ints, repeats


class Candidates(NamedTuple):
    """Which places of a batch's table of negatives are filled, and which candidates count for whom.

    Attributes:
        places: (n,) int64, places in the flat (B·N) table of this rank's negatives, ascending; at
            the others there is none.
        present: (G, N) bool, the places of all ranks at which there is one.
        right: (2, E) int64, rows, and candidates that are further right answers to the question of
            that row, beside its own positive.
    """

    places: Tensor
    present: Tensor
    right: Tensor

    @classmethod
    def of(
        cls,
        rows: TrainRows,
        batch: Ints,
        own: slice = slice(None),
        negatives: tuple[Ints, Ints] | None = None,
        *,
        in_rows: bool = False,
    ) -> Candidates | None:
        """Finds them; None where all places are filled, and all candidates count for all.

        Args:
            rows: All rows.
            batch: (G,) those of the batch, no positive text twice.
            own: Which of those are this rank's.
            negatives: (G, N) their texts, -1 for none, and their keys; None where N is 0.
            in_rows: A negative is one of its row. Else it is a candidate of all rows: each text
                once, and none that is a positive of the batch, which is a candidate already.
        """
        count = len(batch)
        text_GN, key_GN = negatives or (np.zeros((count, 0), np.int64),) * 2
        present_GN = text_GN >= 0
        right = np.empty((2, 0), np.int64)
        if not in_rows:
            slots = np.flatnonzero(present_GN)
            keys = np.concatenate([rows.positive_key[batch], key_GN.ravel()[slots]])
            candidates = np.concatenate([np.arange(count), count + slots])
            once = ~repeats(keys)
            keys, candidates = keys[once], candidates[once]
            present_GN = np.zeros_like(present_GN)
            present_GN.ravel()[candidates[count:] - count] = True
            order = np.argsort(keys)
            row, key = rows.right_of(batch)
            place = np.searchsorted(keys, key, sorter=order)
            found = place < len(keys)
            found[found] = keys[order[place[found]]] == key[found]
            right = np.stack([row[found], candidates[order[place[found]]]])
            right = right[:, right[0] != right[1]]
        if present_GN.all() and not right.size:
            return None
        places = np.flatnonzero(present_GN[own])
        return cls(from_numpy(places), from_numpy(present_GN), from_numpy(right))

    @property
    def mask(self) -> Tensor:
        """(G, C) bool, [i, c]: candidate c is row i's own positive, or a wrong answer to it."""
        count = len(self.present)
        positive_G = torch.ones(count, dtype=torch.bool, device=self.present.device)
        mask = torch.cat([positive_G, self.present.flatten()]).repeat(count, 1)
        mask[self.right[0], self.right[1]] = False
        return mask
