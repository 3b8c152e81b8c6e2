"""The training objective: the loss of a batch, and its in-batch accuracy.

Shape suffixes: B pairs of a batch, N negatives of a pair, S = B·N, P labelled pairs, D embedding.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor
from torch.nn import functional

from embedft.data.batches import TrainBatch
from embedft.data.candidates import Candidates
from embedft.errors import InputError
from embedft.losses import Loss, MatryoshkaLoss

log = logging.getLogger(__name__)


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
        loss: If it needs labels, each negative becomes a pair with the label 0.
        anchor_BD: (B, D) floating point.
        positive_BD: (B, D), row i belongs to anchor i.
        negatives_BND: (B, N, D) or None.
        labels_B: (B,) from 0 to 1; None is 1 for all.
        candidates: Which negatives exist, and which candidates count for which anchor; None is
            all. A ranking loss that takes no mask counts all candidates.

    Returns:
        Scalar float32.
    """
    with torch.autocast(anchor_BD.device.type, enabled=False):
        if not loss.needs_labels:
            mask: tuple[Tensor, ...] = ()
            if candidates is not None and loss.takes_mask:
                mask = (candidates.mask.to(anchor_BD.device),)  # an evaluation's is on the CPU
            return loss(anchor_BD, positive_BD, negatives_BND, *mask)  # type: ignore[no-any-return]
        first_PD, second_PD, labels_P = anchor_BD, positive_BD, labels_B
        if labels_P is None:
            labels_P = torch.ones(len(anchor_BD), device=anchor_BD.device)
        if negatives_BND is not None:
            first_SD = anchor_BD.repeat_interleave(negatives_BND.shape[1], dim=0)
            second_SD = negatives_BND.flatten(0, 1)
            if candidates is not None:
                present_S = candidates.present.flatten()
                first_SD, second_SD = first_SD[present_S], second_SD[present_S]
            first_PD = torch.cat([first_PD, first_SD])
            second_PD = torch.cat([second_PD, second_SD])
            labels_P = torch.cat([labels_P, labels_P.new_zeros(len(first_SD))])
        return loss(first_PD, second_PD, labels_P)  # type: ignore[no-any-return]


def in_batch_accuracy(anchor_BD: Tensor, positive_BD: Tensor) -> Tensor:
    """Share of anchors whose own positive is the nearest one in the batch, in [0, 1]."""
    with torch.no_grad(), torch.autocast(anchor_BD.device.type, enabled=False):
        anchor_BD = functional.normalize(anchor_BD, dim=-1)
        positive_BD = functional.normalize(positive_BD, dim=-1)
        nearest_B = (anchor_BD @ positive_BD.T).argmax(dim=1)
        return (nearest_B == torch.arange(len(nearest_B), device=nearest_B.device)).float().mean()


def training_objective(
    loss: Loss, embedding_dim: int, dims: list[int] | None, weights: list[float] | None
) -> Loss:
    """The loss itself, or with ``matryoshka_dims`` the sum of it over those dimensions.

    Args:
        loss: Of whole embeddings.
        embedding_dim: D of the encoder.
        dims: Numbers of first dimensions that are trained as embeddings; None for none.
        weights: Weight of each of them in the loss; None is 1 for each.

    Raises:
        InputError: There are more dimensions than the encoder has, or weights without dimensions.
    """
    if dims is None:
        if weights is not None:
            raise InputError("matryoshka_weights: needs matryoshka_dims as well. Give both")
        return loss
    if max(dims, default=0) > embedding_dim:
        raise InputError(
            f"matryoshka_dims: has {max(dims)}, but the model has {embedding_dim} dimensions"
        )
    if embedding_dim not in dims:
        log.warning(
            "matryoshka_dims %s: the full dimension %d is not among them, so the full embedding "
            "may not improve",
            dims,
            embedding_dim,
        )
    return MatryoshkaLoss(loss, dims, weights)


def by_pair(embeddings: Tensor, batch: TrainBatch) -> Tensor:
    """(B, 2 + N, D) anchor, positive and N negatives of each pair of a packed batch.

    Args:
        embeddings: (texts, D), first all anchors, then all positives, then the negatives.
        batch: The texts' batch. A pair that has fewer negatives than others gets zeros.
    """
    count = max(1, len(batch.pairs))
    anchor_BD, positive_BD = embeddings[:count], embeddings[count : 2 * count]
    negatives_SD = embeddings[2 * count :]
    if batch.candidates is not None:
        slots = count * batch.candidates.present.shape[1]
        empty_SD = negatives_SD.new_zeros(slots, negatives_SD.shape[1])
        negatives_SD = empty_SD.index_copy(0, batch.candidates.filled_slots, negatives_SD)
    negatives_BND = negatives_SD.view(count, -1, embeddings.shape[1])
    return torch.cat([torch.stack([anchor_BD, positive_BD], dim=1), negatives_BND], dim=1)
