"""Losses, one per file: tensors in, a scalar out."""

from embedft.losses.contrastive import ContrastiveLoss
from embedft.losses.cosine_similarity import CosineSimilarityLoss
from embedft.losses.loss import Loss
from embedft.losses.matryoshka import MatryoshkaLoss
from embedft.losses.multiple_negatives_ranking import MultipleNegativesRankingLoss
from embedft.losses.online_contrastive import OnlineContrastiveLoss

LOSSES: dict[str, type[Loss]] = {
    loss.__name__: loss
    for loss in (
        MultipleNegativesRankingLoss,
        ContrastiveLoss,
        OnlineContrastiveLoss,
        CosineSimilarityLoss,
    )
}
"""The losses that ``--loss_function`` knows by name."""

__all__ = [
    "ContrastiveLoss",
    "CosineSimilarityLoss",
    "Loss",
    "MatryoshkaLoss",
    "MultipleNegativesRankingLoss",
    "OnlineContrastiveLoss",
]
