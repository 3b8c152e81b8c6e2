"""What embeddings of right and wrong pairs look like: similarities, and two dimensions of them.

Shape suffixes: S sampled questions, D embedding, T two dimensions, N pairs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from embedft.evaluation.query_results import QueryResults


def pair_similarities(
    found: QueryResults, relevant: Sequence[NDArray[np.int64]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cosines of the sampled questions with their right answers, and with those of the others.

    Args:
        found: By one model.
        relevant: For each query the places of all its right answers.

    Returns:
        (S,) of right pairs, and (N,) of wrong ones: an answer that is right for both questions is
        in neither.
    """
    scores_SS = (
        functional.normalize(found.question_embeddings.double(), dim=-1)
        @ functional.normalize(found.answer_embeddings.double(), dim=-1).T
    ).numpy()
    first_S = np.array([relevant[int(query)][0] for query in found.sample])
    right_SS = np.stack([np.isin(first_S, relevant[int(query)]) for query in found.sample])
    return scores_SS.diagonal().copy(), scores_SS[~right_SS]


def separation(right_N: NDArray[np.float64], wrong_N: NDArray[np.float64]) -> float:
    """Probability that a right pair is more similar than a wrong one (area under the ROC curve)."""
    order_N = np.sort(wrong_N)
    below_N = np.searchsorted(order_N, right_N, "left") + np.searchsorted(order_N, right_N, "right")
    return float(below_N.mean() / 2 / len(wrong_N))


def two_dimensions(embeddings: Sequence[Tensor]) -> tuple[list[NDArray[np.float32]], float]:
    """The first two principal components of some sets of embeddings, fitted on all together.

    Args:
        embeddings: (S, D) each; their lengths do not matter.

    Returns:
        (S, T) of each set, and the share of the variance that two dimensions hold, in [0, 1].
    """
    unit = functional.normalize(torch.cat(list(embeddings)).double(), dim=-1)
    centred = unit - unit.mean(dim=0)
    variances_D, directions_DD = torch.linalg.eigh(centred.T @ centred)
    directions_DT = directions_DD[:, [-1, -2]]
    largest_T = directions_DT.gather(0, directions_DT.abs().argmax(dim=0, keepdim=True))[0]
    placed = (centred @ (directions_DT * largest_T.sign())).float()
    share = float(variances_D[-2:].sum() / variances_D.sum().clamp(min=1e-12))
    return [part.numpy() for part in placed.split([len(part) for part in embeddings])], share
