"""Cosine similarities of relevant and other pairs, and their embeddings in two dimensions.

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
    results: QueryResults, relevant: Sequence[NDArray[np.int64]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cosine similarities of the sampled questions with their own and with each other's answers.

    Args:
        results: Results of one model.
        relevant: For each query the corpus indices of all its relevant answers.

    Returns:
        (S,) of relevant pairs, and (N,) of the other pairs. An answer that is relevant to both
        questions of a pair is in neither.
    """
    scores_SS = (
        functional.normalize(results.question_embeddings.double(), dim=-1)
        @ functional.normalize(results.answer_embeddings.double(), dim=-1).T
    ).numpy()
    first_S = np.array([relevant[int(query)][0] for query in results.sample])
    relevant_SS = np.stack([np.isin(first_S, relevant[int(query)]) for query in results.sample])
    return scores_SS.diagonal().copy(), scores_SS[~relevant_SS]


def separation(relevant_N: NDArray[np.float64], other_N: NDArray[np.float64]) -> float:
    """Probability that a relevant pair is more similar than another (area under the ROC curve)."""
    order_N = np.sort(other_N)
    below_N = np.searchsorted(order_N, relevant_N, "left")
    below_N = below_N + np.searchsorted(order_N, relevant_N, "right")  # ties count half
    return float(below_N.mean() / 2 / len(other_N))


def two_dimensions(embeddings: Sequence[Tensor]) -> tuple[list[NDArray[np.float32]], float]:
    """The first two principal components of several sets of embeddings, fitted on all of them.

    Args:
        embeddings: Sets of (S, D); the length of an embedding does not matter.

    Returns:
        (S, T) of each set, and the share of the variance in these two dimensions, in [0, 1].
    """
    unit = functional.normalize(torch.cat(list(embeddings)).double(), dim=-1)
    centred = unit - unit.mean(dim=0)
    variances_D, directions_DD = torch.linalg.eigh(centred.T @ centred)
    directions_DT = directions_DD[:, [-1, -2]]
    # The sign of a direction is arbitrary: its largest entry shall be positive.
    largest_T = directions_DT.gather(0, directions_DT.abs().argmax(dim=0, keepdim=True))[0]
    projected = (centred @ (directions_DT * largest_T.sign())).float()
    share = float(variances_D[-2:].sum() / variances_D.sum().clamp(min=1e-12))
    sizes = [len(part) for part in embeddings]
    return [part.numpy() for part in projected.split(sizes)], share
