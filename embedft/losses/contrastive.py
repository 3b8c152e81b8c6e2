"""Contrastive loss: pulls positive pairs together, pushes negative pairs apart.

Shape suffixes: P pairs, D embedding.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from embedft.losses.distance import DistanceMetric, check_pairs, pairwise_distance
from embedft.losses.loss import Loss


class ContrastiveLoss(Loss):
    r"""Squared distance of positive pairs; for negative pairs, the squared shortfall from a margin.

    .. math::
        L = \frac{1}{P} \sum_i \tfrac{1}{2}
            \left( y_i d_i^2 + (1 - y_i) \max(0, m - d_i)^2 \right)

    with distances d, labels y and margin m; at least 0.

    Source: Hadsell, Chopra and LeCun, 2006, "Dimensionality reduction by learning an invariant
    mapping". Equals sentence-transformers' ``ContrastiveLoss``.

    Args:
        margin: m, at least 0.
        distance_metric: ``cosine`` (1 - cosine), ``euclidean`` or ``manhattan``.
        size_average: Mean over pairs (default); False sums them.

    Raises:
        ValueError: The margin is negative.
    """

    needs_labels: ClassVar[bool] = True

    def __init__(
        self,
        margin: float = 0.5,
        distance_metric: DistanceMetric = "cosine",
        size_average: bool = True,
    ) -> None:
        super().__init__()
        if not margin >= 0:
            raise ValueError(f"margin: is {margin}, must be 0 or more (usual: 0.5)")
        self.margin = margin
        self.distance_metric: DistanceMetric = distance_metric
        self.size_average = size_average

    def forward(self, first_PD: Tensor, second_PD: Tensor, labels_P: Tensor) -> Tensor:
        """The loss of labelled pairs.

        Args:
            first_PD: (P, D) floating point.
            second_PD: (P, D).
            labels_P: (P,) 1 for a positive pair, 0 for a negative pair; values in between weight
                the two terms.

        Returns:
            Scalar, in the dtype of the inputs.

        Raises:
            ValueError: The shapes do not fit together.
        """
        check_pairs(first_PD, second_PD, labels_P)
        distance_P = pairwise_distance(first_PD, second_PD, self.distance_metric)
        pull_P = labels_P.float() * distance_P.pow(2)
        push_P = (1 - labels_P).float() * functional.relu(self.margin - distance_P).pow(2)
        loss_P = 0.5 * (pull_P + push_P)
        return loss_P.mean() if self.size_average else loss_P.sum()
