from __future__ import annotations

import numpy as np

from embedft.table.negatives import Negatives

LISTS = [[10, 11, 12], [], [13]]


def negatives() -> Negatives:
    text = np.array([text for texts in LISTS for text in texts])
    return Negatives(text, text + 100, np.array([0, 3, 3, 4]))


def lists(chosen: Negatives) -> list[list[int]]:
    parts = np.split(chosen.text, chosen.offsets[1:-1])
    assert (chosen.key == chosen.text + 100).all()
    return [part.tolist() for part in parts]


def test_negatives_of_rows_in_their_order() -> None:
    assert lists(negatives().of(np.array([2, 0, 2, 1]))) == [[13], LISTS[0], [13], []]
    assert negatives().counts.tolist() == [3, 0, 1]
    assert negatives().owner.tolist() == [0, 0, 0, 2]


def test_a_mask_keeps_negatives_with_their_rows() -> None:
    assert lists(negatives().only(np.array([False, True, True, False]))) == [[11, 12], [], []]


def test_each_epoch_takes_the_next_ones_of_the_list() -> None:
    epochs = [negatives().of_epoch(np.array([0, 1, 2]), 2, epoch) for epoch in range(3)]
    assert [text.tolist() for text, _ in epochs] == [
        [[10, 11], [-1, -1], [13, -1]],
        [[12, 10], [-1, -1], [13, -1]],
        [[11, 12], [-1, -1], [13, -1]],
    ]
    assert epochs[0][1].tolist() == [[110, 111], [0, 0], [113, 0]]


def test_mined_negatives_are_positives_of_other_pairs() -> None:
    mined = np.array([[2, 1], [-1, -1], [0, -1]])
    text = np.array([5, 6, 7])
    chosen = Negatives.of_pairs(mined, text, text + 100)
    assert lists(chosen) == [[7, 6], [], [5]]
