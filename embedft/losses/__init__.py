"""Losses, one a file: tensors in, a scalar out."""

from embedft.losses.contrastive import ContrastiveLoss
from embedft.losses.cosine_similarity import CosineSimilarityLoss
from embedft.losses.loss import Loss
from embedft.losses.matryoshka import MatryoshkaLoss
from embedft.losses.multiple_negatives_ranking import MultipleNegativesRankingLoss
from embedft.losses.online_contrastive import OnlineContrastiveLoss

__all__ = [
    "ContrastiveLoss",
    "CosineSimilarityLoss",
    "Loss",
    "MatryoshkaLoss",
    "MultipleNegativesRankingLoss",
    "OnlineContrastiveLoss",
]
