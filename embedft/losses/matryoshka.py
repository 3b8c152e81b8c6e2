"""Any loss on the first dimensions of the embeddings as well as on all of them.

Shape suffixes: B anchors or pairs, N negatives an anchor, P labelled pairs, D embedding.
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

    with dimensions d and weights w, and embeddings scaled to length 1 after the cut, so that the
    first numbers of an embedding are an embedding of their own.

    Source: Kusupati et al., 2022, arXiv:2205.13147. Equals sentence-transformers'
    ``MatryoshkaLoss``.

    Args:
        loss: Of one dimension.
        matryoshka_dims: d, each at least 1 and none twice; the full length is usually among them.
        matryoshka_weights: w, above 0, one for each; None is 1 for all.

    Raises:
        ValueError: There is no dimension, or they or the weights are wrong.
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
                f"matryoshka_dims: is {dims}, must be some different numbers from 1 on "
                "(usual: [384, 256, 128, 64])"
            )
        weights = [1.0] * len(dims) if matryoshka_weights is None else list(matryoshka_weights)
        if len(weights) != len(dims) or not min(weights) > 0:
            raise ValueError(
                f"matryoshka_weights: is {weights}, must be {len(dims)} numbers above 0, one for "
                "each of matryoshka_dims"
            )
        self.loss, self.matryoshka_dims, self.matryoshka_weights = loss, dims, weights
        self.needs_labels = loss.needs_labels  # type: ignore[misc]  # that of the wrapped loss

    @property
    def takes_mask(self) -> bool:
        """Whether the wrapped loss can leave candidates out."""
        return self.loss.takes_mask

    def forward(self, first_BD: Tensor, second_BD: Tensor, *rest: Any) -> Tensor:
        """The loss of a batch.

        Args:
            first_BD: (B, D) floating point.
            second_BD: (B, D).
            rest: What the loss takes after them: negatives_BND and mask_BC, or labels_P.

        Returns:
            Scalar, in the dtype of the inputs.

        Raises:
            ValueError: A dimension is larger than D.
        """
        if max(self.matryoshka_dims) > first_BD.shape[-1]:
            raise ValueError(
                f"matryoshka_dims: has {max(self.matryoshka_dims)}, the embeddings have "
                f"{first_BD.shape[-1]} dimensions"
            )
        total = first_BD.new_zeros(())
        for dim, weight in zip(self.matryoshka_dims, self.matryoshka_weights, strict=True):
            cut = list(rest)
            if not self.needs_labels and cut and cut[0] is not None:
                cut[0] = _first(cut[0], dim)
            total = total + weight * self.loss(_first(first_BD, dim), _first(second_BD, dim), *cut)
        return total


def _first(vectors: Tensor, dim: int) -> Tensor:
    return functional.normalize(vectors[..., :dim], dim=-1)
