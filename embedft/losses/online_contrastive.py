"""Online contrastive loss: contrastive loss on only the hard pairs of a batch.

Shape suffixes: P pairs, D embedding.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from embedft.losses.distance import DistanceMetric, check_pairs, pairwise_distance
from embedft.losses.loss import Loss


class OnlineContrastiveLoss(Loss):
    r"""The contrastive loss, summed over the hard pairs of a batch.

    A positive pair is hard if it is farther apart than the closest negative pair; a negative pair
    is hard if it is closer than the farthest positive pair.

    .. math::
        L = \sum_{i: y_i = 1, d_i > t_+} d_i^2 + \sum_{i: y_i = 0, d_i < t_-} \max(0, m - d_i)^2

    with distances d, labels y, margin m, :math:`t_+` the smallest distance of a negative pair and
    :math:`t_-` the largest of a positive pair. If a class is absent, its threshold is the mean
    distance of the other class. A sum, not a mean: it grows with the batch. At least 0.

    Source: sentence-transformers' ``OnlineContrastiveLoss``, which it equals; after Hadsell, Chopra
    and LeCun, 2006.

    Args:
        margin: m, at least 0.
        distance_metric: ``cosine`` (1 - cosine), ``euclidean`` or ``manhattan``.

    Raises:
        ValueError: The margin is negative.
    """

    needs_labels: ClassVar[bool] = True

    def __init__(self, margin: float = 0.5, distance_metric: DistanceMetric = "cosine") -> None:
        super().__init__()
        if not margin >= 0:
            raise ValueError(f"margin: is {margin}, must be 0 or more (usual: 0.5)")
        self.margin = margin
        self.distance_metric: DistanceMetric = distance_metric

    def forward(self, first_PD: Tensor, second_PD: Tensor, labels_P: Tensor) -> Tensor:
        """The loss of labelled pairs.

        Args:
            first_PD: (P, D) floating point.
            second_PD: (P, D).
            labels_P: (P,) 1 or 0; pairs with any other label are ignored.

        Returns:
            Scalar, in the dtype of the inputs.

        Raises:
            ValueError: The shapes do not fit together.
        """
        check_pairs(first_PD, second_PD, labels_P)
        distance_P = pairwise_distance(first_PD, second_PD, self.distance_metric)
        negative = distance_P[labels_P == 0]
        positive = distance_P[labels_P == 1]
        farthest_positive = positive.max() if len(positive) else negative.mean()
        nearest_negative = negative.min() if len(negative) else positive.mean()
        hard_negative = negative[negative < farthest_positive]
        hard_positive = positive[positive > nearest_negative]
        push = functional.relu(self.margin - hard_negative).pow(2).sum()
        return hard_positive.pow(2).sum() + push
