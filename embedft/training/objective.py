"""What the embeddings of a batch are worth: its loss, and how many anchors find their positive.

Shape suffixes: B pairs of a batch, N negatives a pair, S = B·N, P labelled pairs, D embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from embedft.data.candidates import Candidates
from embedft.losses import Loss


def batch_loss(
    loss: Loss,
    anchor_BD: Tensor,
    positive_BD: Tensor,
    negatives_BND: Tensor | None,
    labels_B: Tensor | None,
    candidates: Candidates | None = None,
) -> Tensor:
    """The loss in float32, whatever the precision of the run.

    Args:
        loss: Called as its ``needs_labels`` says; to one that needs them negatives are pairs of
            label 0 beside those of the file.
        anchor_BD: (B, D) floating point.
        positive_BD: (B, D), row i belongs to anchor i.
        negatives_BND: (B, N, D) or None.
        labels_B: (B,) from 0 to 1; None is 1 for all.
        candidates: Which of the negatives are there, and which candidates count for which anchor;
            None is all. A ranking loss that takes no mask has all.

    Returns:
        Scalar float32.
    """
    with torch.autocast(anchor_BD.device.type, enabled=False):
        if not loss.needs_labels:
            some: tuple[Tensor, ...] = ()
            if candidates is not None and loss.takes_mask:
                some = (candidates.mask.to(anchor_BD.device),)  # an evaluation's is on the CPU
            return loss(anchor_BD, positive_BD, negatives_BND, *some)  # type: ignore[no-any-return]
        first_PD, second_PD, labels_P = anchor_BD, positive_BD, labels_B
        if labels_P is None:
            labels_P = torch.ones(len(anchor_BD), device=anchor_BD.device)
        if negatives_BND is not None:
            first_SD = anchor_BD.repeat_interleave(negatives_BND.shape[1], dim=0)
            second_SD = negatives_BND.flatten(0, 1)
            if candidates is not None:
                there_S = candidates.present.flatten()
                first_SD, second_SD = first_SD[there_S], second_SD[there_S]
            first_PD = torch.cat([first_PD, first_SD])
            second_PD = torch.cat([second_PD, second_SD])
            labels_P = torch.cat([labels_P, labels_P.new_zeros(len(first_SD))])
        return loss(first_PD, second_PD, labels_P)  # type: ignore[no-any-return]


def in_batch_accuracy(anchor_BD: Tensor, positive_BD: Tensor) -> Tensor:
    """Share of anchors whose own positive is the nearest of the batch, in [0, 1]."""
    with torch.no_grad(), torch.autocast(anchor_BD.device.type, enabled=False):
        anchor_BD = functional.normalize(anchor_BD, dim=-1)
        positive_BD = functional.normalize(positive_BD, dim=-1)
        nearest_B = (anchor_BD @ positive_BD.T).argmax(dim=1)
        return (nearest_B == torch.arange(len(nearest_B), device=nearest_B.device)).float().mean()
