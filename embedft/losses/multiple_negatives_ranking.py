"""Multiple negatives ranking loss: cross-entropy over the candidates of a batch.

Shape suffixes: B anchors, C candidates, N negatives per anchor, D embedding.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from embedft.losses.loss import Loss
from embedft.recipe import AUTO, Auto


class MultipleNegativesRankingLoss(Loss):
    r"""Each anchor must rank its positive above all other positives and negatives of the batch.

    .. math::
        L = -\frac{1}{B} \sum_i \log \frac{e^{s (\cos(a_i, p_i) - m)}}
            {e^{s (\cos(a_i, p_i) - m)} + \sum_{c \in P \cup N, c \ne p_i} e^{s \cos(a_i, c)}}

    with anchors a, positives P, extra negatives N, scale s and margin m. A mean over anchors, at
    least 0. The symmetric form is the mean of this loss and its mirror image, in which each
    positive must rank its anchor above all other anchors. The positives of other rows are the
    in-batch negatives, so no text may occur twice in a batch.

    With label smoothing e, the target of an anchor is its positive with weight 1 - e, and all
    candidates, the positive included, with weight e in equal parts. The loss is then 1 - e times
    the loss above plus e times the mean -log softmax of all candidates. Wrong candidates are pushed
    away only until they are unlikely.

    Source: Henderson et al., 2017, arXiv:1705.00652, section 4.4; as InfoNCE: van den Oord et al.,
    2018, arXiv:1807.03748; the margin: Yang et al., 2019, arXiv:1902.08564; label smoothing:
    Szegedy et al., 2015, arXiv:1512.00567, section 7. Without margin and smoothing equals
    sentence-transformers' ``MultipleNegativesRankingLoss`` with cosine similarity, the symmetric
    form with ``directions=("query_to_doc", "doc_to_query")`` and
    ``partition_mode="per_direction"``.

    Args:
        scale: s, the inverse temperature, above 0.
        symmetric: Also rank the anchors for each positive.
        additive_margin: m, subtracted from each positive's cosine, from 0 to below 2. ``auto``:
            0.15, or 0.2 with label smoothing, if fewer than 0.2% of the questions have several
            answers; else 0. Without a trainer ``auto`` is 0.
        label_smoothing: e, from 0 to below 1. ``auto``: 0.1 in batches by topic, if fewer than 0.2%
            of the questions have several answers and at most 50% of the pairs share their file
            with another pair; else 0. Without a trainer ``auto`` is 0.

    Raises:
        ValueError: Scale, margin or smoothing is out of its range.
    """

    needs_labels: ClassVar[bool] = False
    short_names = ("mnrl", "mnr")

    def __init__(
        self,
        scale: float = 20.0,
        symmetric: bool = False,
        additive_margin: float | Auto = 0.0,
        label_smoothing: float | Auto = 0.0,
    ) -> None:
        super().__init__()
        if not scale > 0:
            raise ValueError(f"scale: is {scale}, must be above 0 (usual: 20)")
        if additive_margin != AUTO and not 0 <= additive_margin < 2:
            raise ValueError(
                f"additive_margin: is {additive_margin}, must be from 0 to below 2 (usual: 0.15)"
            )
        if label_smoothing != AUTO and not 0 <= label_smoothing < 1:
            raise ValueError(
                f"label_smoothing: is {label_smoothing}, must be from 0 to below 1 (usual: 0.1)"
            )
        self.scale = scale
        self.symmetric = symmetric
        # Not named "margin": LightningCLI passes an argument on to another loss that has its name.
        self.additive_margin: float | Auto = additive_margin
        self.label_smoothing: float | Auto = label_smoothing

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
        if margin := _number(self.additive_margin):
            scores_BC.diagonal().sub_(self.scale * margin)
        if mask_BC is not None:
            scores_BC = scores_BC.masked_fill(~mask_BC, -torch.inf)
        loss = self._cross_entropy(scores_BC)
        if self.symmetric:
            loss = (loss + self._cross_entropy(scores_BC[:, : len(anchor_BD)].T)) / 2
        return loss

    def _cross_entropy(self, scores_BC: Tensor) -> Tensor:
        """Cross-entropy with target i for row i; -inf marks an excluded candidate."""
        target_B = torch.arange(len(scores_BC), device=scores_BC.device)
        loss = functional.cross_entropy(scores_BC, target_B)
        if smoothing := _number(self.label_smoothing):
            # cross_entropy's own smoothing would include the excluded candidates, at -inf.
            is_excluded_BC = scores_BC.isneginf()
            mean_B = scores_BC.masked_fill(is_excluded_BC, 0).sum(1) / (~is_excluded_BC).sum(1)
            uniform = (scores_BC.logsumexp(1) - mean_B).mean()
            loss = loss.lerp(uniform, smoothing)
        return loss


def _number(value: float | Auto) -> float:
    """A setting as a number: without a trainer nobody has settled ``auto``."""
    return 0.0 if value == AUTO else value
