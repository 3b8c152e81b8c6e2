"""Matryoshka loss: any loss, on the first dimensions of the embeddings as well as on all of them.

Shape suffixes: B anchors or pairs, N negatives per anchor, P labelled pairs, D embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional

from embedft.losses.loss import Loss


class MatryoshkaLoss(Loss):
    r"""The weighted sum of a loss over embeddings cut to their first dimensions.

    .. math::
        L = \sum_k w_k \, \ell(x_{1 \dots d_k}, y_{1 \dots d_k})

    with dimensions d and weights w. Embeddings are scaled to unit length after the cut, so that the
    first dimensions of an embedding are an embedding themselves.

    Source: Kusupati et al., 2022, arXiv:2205.13147. Equals sentence-transformers'
    ``MatryoshkaLoss``.

    Args:
        loss: The loss of each dimension.
        matryoshka_dims: d, distinct and at least 1; usually the full dimension is among them.
        matryoshka_weights: w, above 0, one per dimension; None is 1 for all.

    Raises:
        ValueError: There is no dimension, or a dimension or weight is out of its range.
    """

    def __init__(
        self,
        loss: Loss,
        matryoshka_dims: Sequence[int],
        matryoshka_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        dims = list(matryoshka_dims)
        if not dims or min(dims) < 1 or len(set(dims)) < len(dims):
            raise ValueError(
                f"matryoshka_dims: is {dims}, must be distinct numbers of at least 1 "
                "(usual: [384, 256, 128, 64])"
            )
        weights = [1.0] * len(dims) if matryoshka_weights is None else list(matryoshka_weights)
        if len(weights) != len(dims) or not min(weights) > 0:
            raise ValueError(
                f"matryoshka_weights: is {weights}, must be {len(dims)} numbers above 0, one "
                "per dimension of matryoshka_dims"
            )
        self.loss, self.matryoshka_dims, self.matryoshka_weights = loss, dims, weights
        self.needs_labels = loss.needs_labels  # type: ignore[misc]  # per instance, from the wrapped loss

    @property
    def takes_mask(self) -> bool:
        """Whether the wrapped loss can exclude candidates."""
        return self.loss.takes_mask

    def forward(self, first_BD: Tensor, second_BD: Tensor, *rest: Any) -> Tensor:
        """The loss of a batch.

        Args:
            first_BD: (B, D) floating point.
            second_BD: (B, D).
            rest: The further arguments of the loss: negatives_BND and mask_BC, or labels_P.

        Returns:
            Scalar, in the dtype of the inputs.

        Raises:
            ValueError: A dimension is larger than D.
        """
        if max(self.matryoshka_dims) > first_BD.shape[-1]:
            raise ValueError(
                f"matryoshka_dims: has {max(self.matryoshka_dims)}, but the embeddings have only "
                f"{first_BD.shape[-1]} dimensions"
            )
        total = first_BD.new_zeros(())
        for dim, weight in zip(self.matryoshka_dims, self.matryoshka_weights, strict=True):
            arguments = list(rest)
            if not self.needs_labels and arguments and arguments[0] is not None:
                arguments[0] = _cut(arguments[0], dim)
            total = total + weight * self.loss(
                _cut(first_BD, dim), _cut(second_BD, dim), *arguments
            )
        return total


def _cut(vectors: Tensor, dim: int) -> Tensor:
    """The first ``dim`` dimensions, scaled to unit length."""
    return functional.normalize(vectors[..., :dim], dim=-1)
