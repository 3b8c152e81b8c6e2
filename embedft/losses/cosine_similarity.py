"""Regression loss of the cosine similarity.

Shape suffixes: P pairs, D embedding.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from embedft.losses.distance import check_pairs
from embedft.losses.loss import Loss


class CosineSimilarityLoss(Loss):
    r"""Mean squared difference between cosine similarity and label.

    .. math::
        L = \frac{1}{P} \sum_i (\cos(a_i, b_i) - y_i)^2

    In [0, 4] for labels from 0 to 1.

    Source: Reimers and Gurevych, 2019, arXiv:1908.10084, section 3 (regression objective). Equals
    sentence-transformers' ``CosineSimilarityLoss``.
    """

    needs_labels: ClassVar[bool] = True
    short_names = ("cosine",)

    def forward(self, first_PD: Tensor, second_PD: Tensor, labels_P: Tensor) -> Tensor:
        """The loss of labelled pairs.

        Args:
            first_PD: (P, D) floating point.
            second_PD: (P, D).
            labels_P: (P,) target cosine similarities.

        Returns:
            Scalar, in the dtype of the inputs.

        Raises:
            ValueError: The shapes do not fit together.
        """
        check_pairs(first_PD, second_PD, labels_P)
        similarity_P = functional.cosine_similarity(first_PD, second_PD)
        return functional.mse_loss(similarity_P, labels_P.float())
