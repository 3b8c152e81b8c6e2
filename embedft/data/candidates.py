"""The candidates of a batch's questions, and which of them count for which question.

Shape suffixes: B pairs of a batch on this rank, G pairs of the batch on all ranks, N negatives per
pair, C = G + G·N candidates: the positives of the pairs, then the table of negatives, pair by pair.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, from_numpy

from embedft.data.pairs import Pairs
from embedft.table.keys import Ints, repeats


class Candidates(NamedTuple):
    """Which slots of a batch's table of negatives are filled, and which candidates count for whom.

    Attributes:
        filled_slots: (n,) int64, ascending indices of the negatives that exist in the flat (B·N)
            table of this rank.
        present: (G, N) bool, whether a slot of the table of all ranks is filled.
        relevant: (2, E) int64, pairs of the batch, and candidates that are further relevant answers
            to the question of that pair, in addition to its own positive.
    """

    filled_slots: Tensor
    present: Tensor
    relevant: Tensor

    @classmethod
    def of(
        cls,
        pairs: Pairs,
        batch: Ints,
        of_rank: slice = slice(None),
        negatives: tuple[Ints, Ints] | None = None,
        *,
        pairwise_negatives: bool = False,
    ) -> Candidates | None:
        """Finds them; None if all slots are filled and all candidates count for all questions.

        Args:
            pairs: All pairs.
            batch: (G,) indices of the pairs of the batch, no positive text twice.
            of_rank: Which of those are this rank's.
            negatives: (G, N) their texts, -1 for none, and their ids; None if N is 0.
            pairwise_negatives: Each negative is compared only with the anchor of its own pair. If
                not, it is a candidate for all anchors: each text once, and none that is a positive
                of the batch, which is a candidate already.
        """
        count = len(batch)
        text_GN, id_GN = negatives or (np.zeros((count, 0), np.int64),) * 2
        present_GN = text_GN >= 0
        relevant = np.empty((2, 0), np.int64)
        if not pairwise_negatives:
            slots = np.flatnonzero(present_GN)
            ids = np.concatenate([pairs.positive_id[batch], id_GN.ravel()[slots]])
            candidates = np.concatenate([np.arange(count), count + slots])
            once = ~repeats(ids)
            ids, candidates = ids[once], candidates[once]
            present_GN = np.zeros_like(present_GN)
            present_GN.ravel()[candidates[count:] - count] = True
            order = np.argsort(ids)
            question, answer_id = pairs.relevant_to(batch)
            index = np.searchsorted(ids, answer_id, sorter=order)
            found = index < len(ids)
            found[found] = ids[order[index[found]]] == answer_id[found]
            relevant = np.stack([question[found], candidates[order[index[found]]]])
            relevant = relevant[:, relevant[0] != relevant[1]]
        if present_GN.all() and not relevant.size:
            return None
        filled_slots = np.flatnonzero(present_GN[of_rank])
        return cls(from_numpy(filled_slots), from_numpy(present_GN), from_numpy(relevant))

    @property
    def mask(self) -> Tensor:
        """(G, C) bool, [i, c]: candidate c is pair i's positive, or irrelevant to its anchor."""
        count = len(self.present)
        positive_G = torch.ones(count, dtype=torch.bool, device=self.present.device)
        mask = torch.cat([positive_G, self.present.flatten()]).repeat(count, 1)
        mask[self.relevant[0], self.relevant[1]] = False
        return mask
