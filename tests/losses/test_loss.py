"""What a loss says about how it is called."""

from __future__ import annotations

import pytest
from torch import Tensor

from embedft.losses import (
    ContrastiveLoss,
    CosineSimilarityLoss,
    Loss,
    MatryoshkaLoss,
    MultipleNegativesRankingLoss,
    OnlineContrastiveLoss,
)


class WithoutMask(Loss):
    needs_labels = False

    def forward(self, anchor_BD: Tensor, positive_BD: Tensor) -> Tensor:
        return (anchor_BD - positive_BD).square().sum()


@pytest.mark.parametrize(
    ("loss", "needs_labels", "takes_mask"),
    [
        (MultipleNegativesRankingLoss(), False, True),
        (MatryoshkaLoss(MultipleNegativesRankingLoss(), [2]), False, True),
        (WithoutMask(), False, False),
        (MatryoshkaLoss(WithoutMask(), [2]), False, False),
        (ContrastiveLoss(), True, False),
        (OnlineContrastiveLoss(), True, False),
        (CosineSimilarityLoss(), True, False),
        (MatryoshkaLoss(CosineSimilarityLoss(), [2]), True, False),
    ],
)
def test_labels_and_mask(loss: Loss, needs_labels: bool, takes_mask: bool) -> None:
    assert loss.needs_labels is needs_labels
    assert loss.takes_mask is takes_mask
