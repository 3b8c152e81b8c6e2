from __future__ import annotations

import numpy as np
from numbered_pairs import numbered_pairs

from embedft.data.candidates import Candidates


def test_a_relevant_answer_of_another_pair_does_not_count_as_wrong() -> None:
    """Pair 1's answer is also relevant to question 0: pair 2 says so, in another batch."""
    rows = numbered_pairs([-1] * 4, [0, 1, 0, 2], [0, 1, 1, 2])
    found = Candidates.of(rows, np.array([0, 1, 3]))
    assert found is not None
    assert found.mask.tolist() == [[True, False, True], [True] * 3, [True] * 3]


def test_labelled_pairs_have_no_candidates() -> None:
    rows = numbered_pairs([-1] * 4, [0, 1, 0, 2], [0, 1, 1, 2])
    assert Candidates.of(rows, np.array([0, 1, 3]), pairwise_negatives=True) is None
