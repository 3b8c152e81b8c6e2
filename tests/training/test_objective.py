from __future__ import annotations

import torch

from embedft.losses import ContrastiveLoss, MultipleNegativesRankingLoss
from embedft.training.objective import batch_loss, in_batch_accuracy


def test_a_negative_becomes_a_pair_with_label_0() -> None:
    loss = ContrastiveLoss()
    anchor, positive = torch.randn(2, 4), torch.randn(2, 4)
    negatives = torch.randn(2, 3, 4)
    first = torch.cat([anchor, anchor[[0, 0, 0, 1, 1, 1]]])
    second = torch.cat([positive, negatives[0], negatives[1]])
    expected = loss(first, second, torch.tensor([1.0, 1, 0, 0, 0, 0, 0, 0]))
    assert batch_loss(loss, anchor, positive, negatives, None) == expected


def test_labels_of_the_file_are_used() -> None:
    loss = ContrastiveLoss()
    anchor, positive, labels = torch.randn(2, 4), torch.randn(2, 4), torch.tensor([0.0, 1.0])
    expected = loss(anchor, positive, labels)
    assert batch_loss(loss, anchor, positive, None, labels) == expected


def test_loss_is_computed_in_float32_under_autocast() -> None:
    loss = MultipleNegativesRankingLoss()
    anchor, positive = torch.randn(8, 32), torch.randn(8, 32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = batch_loss(loss, anchor, positive, None, None)
    assert inside == batch_loss(loss, anchor, positive, None, None)
    assert inside.dtype == torch.float32


def test_in_batch_accuracy() -> None:
    table = torch.eye(4)
    assert in_batch_accuracy(table, table) == 1
    assert in_batch_accuracy(table, table[[0, 1, 3, 2]] * 9) == 0.5
