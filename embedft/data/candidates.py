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
        filled_slots: (n,) int64, ascending indices of the negatives that exist in the flat (B·N)
            table of this rank's negatives.
        present: (G, N) bool, the places of all ranks at which there is one.
        relevant: (2, E) int64, rows, and candidates that are further relevant answers to the
            question of that row, beside its own positive.
    """

    filled_slots: Tensor
    present: Tensor
    relevant: Tensor

    @classmethod
    def of(
        cls,
        rows: TrainRows,
        batch: Ints,
        own: slice = slice(None),
        negatives: tuple[Ints, Ints] | None = None,
        *,
        pairwise_negatives: bool = False,
    ) -> Candidates | None:
        """Finds them; None where all places are filled, and all candidates count for all.

        Args:
            rows: All rows.
            batch: (G,) those of the batch, no positive text twice.
            own: Which of those are this rank's.
            negatives: (G, N) their texts, -1 for none, and their keys; None where N is 0.
            pairwise_negatives: Each negative is compared only with the anchor of its own row. If
                not, it is a candidate for all rows: each text once, and none that is a positive of
                the batch, which is a candidate already.
        """
        count = len(batch)
        text_GN, key_GN = negatives or (np.zeros((count, 0), np.int64),) * 2
        present_GN = text_GN >= 0
        right = np.empty((2, 0), np.int64)
        if not pairwise_negatives:
            slots = np.flatnonzero(present_GN)
            keys = np.concatenate([rows.positive_id[batch], key_GN.ravel()[slots]])
            candidates = np.concatenate([np.arange(count), count + slots])
            once = ~repeats(keys)
            keys, candidates = keys[once], candidates[once]
            present_GN = np.zeros_like(present_GN)
            present_GN.ravel()[candidates[count:] - count] = True
            order = np.argsort(keys)
            row, key = rows.relevant_in(batch)
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
        mask[self.relevant[0], self.relevant[1]] = False
        return mask
