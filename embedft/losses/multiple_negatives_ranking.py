"""Multiple negatives ranking loss: cross-entropy over the candidates of a batch.

Shape suffixes: B anchors, C candidates, N negatives per anchor, D embedding.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from embedft.losses.loss import Loss


class MultipleNegativesRankingLoss(Loss):
    r"""Each anchor must rank its positive above all other positives and negatives of the batch.

    .. math::
        L = -\frac{1}{B} \sum_i \log \frac{e^{s \cos(a_i, p_i)}}
            {\sum_{c \in P \cup N} e^{s \cos(a_i, c)}}

    with anchors a, positives P, extra negatives N and scale s. A mean over anchors, at least 0.
    The symmetric form is the mean of this loss and its mirror image, in which each positive must
    rank its anchor above all other anchors. The positives of other rows are the in-batch negatives,
    so no text may occur twice in a batch.

    Source: Henderson et al., 2017, arXiv:1705.00652, section 4.4; as InfoNCE: van den Oord et al.,
    2018, arXiv:1807.03748. Equals sentence-transformers'
    ``MultipleNegativesRankingLoss`` with cosine similarity: the symmetric form with
    ``directions=("query_to_doc", "doc_to_query")`` and ``partition_mode="per_direction"``, the
    other form with its defaults.

    Args:
        scale: s, the inverse temperature, above 0.
        symmetric: Also rank the anchors for each positive.

    Raises:
        ValueError: The scale is not above 0.
    """

    needs_labels: ClassVar[bool] = False
    short_names = ("mnrl", "mnr")

    def __init__(self, scale: float = 20.0, symmetric: bool = True) -> None:
        super().__init__()
        if not scale > 0:
            raise ValueError(f"scale: is {scale}, must be above 0 (usual: 20)")
        self.scale = scale
        self.symmetric = symmetric

    def forward(
        self,
        anchor_BD: Tensor,
        positive_BD: Tensor,
        negatives_BND: Tensor | None = None,
        mask_BC: Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch.

        Args:
            anchor_BD: (B, D) floating point, not necessarily of unit length.
            positive_BD: (B, D), row i is the positive of anchor i.
            negatives_BND: (B, N, D) extra negatives, candidates of all anchors; or None.
            mask_BC: (B, B + B·N) bool, for the positives, then the negatives. False at [i, c]
                excludes candidate c for anchor i: it gets no weight and no gradient. In the
                symmetric form it also excludes anchor i for positive c. True at [i, i]. None
                excludes nothing.

        Returns:
            Scalar, in the dtype of the inputs.

        Raises:
            ValueError: The shapes do not fit together.
        """
        if anchor_BD.shape != positive_BD.shape or anchor_BD.dim() != 2:
            raise ValueError(
                f"anchors and positives must be two (B, D) tensors of one shape, got "
                f"{tuple(anchor_BD.shape)} and {tuple(positive_BD.shape)}"
            )
        candidates_CD = positive_BD
        if negatives_BND is not None:
            if negatives_BND.dim() != 3 or negatives_BND.shape[::2] != anchor_BD.shape:
                raise ValueError(
                    f"negatives must be ({len(anchor_BD)}, N, {anchor_BD.shape[1]}), got "
                    f"{tuple(negatives_BND.shape)}"
                )
            candidates_CD = torch.cat([positive_BD, negatives_BND.flatten(0, 1)])
        anchor_BD = functional.normalize(anchor_BD, dim=-1)
        candidates_CD = functional.normalize(candidates_CD, dim=-1)
        scores_BC = self.scale * (anchor_BD @ candidates_CD.T)
        if mask_BC is not None:
            scores_BC = scores_BC.masked_fill(~mask_BC, -torch.inf)
        target_B = torch.arange(len(scores_BC), device=scores_BC.device)
        loss = functional.cross_entropy(scores_BC, target_B)
        if self.symmetric:
            mirrored_BB = scores_BC[:, : len(anchor_BD)].T
            loss = (loss + functional.cross_entropy(mirrored_BB, target_B)) / 2
        return loss
