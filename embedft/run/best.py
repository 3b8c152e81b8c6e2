"""Which weights of a run are best."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedft.evaluation.bootstrap import paired_bootstrap

METRIC = "ndcg@10"


def not_significantly_worse(
    top_Q: NDArray[np.float64], later_Q: NDArray[np.float64], base_Q: NDArray[np.float64] | None
) -> bool:
    """Whether weights that forget less do not surely find less than others.

    Surely: the 95% interval of the difference lies below 0. Some questions fewer of a few held-out
    ones are chance; later epochs, whose rate has fallen, and mixtures with the base model find as
    much of other questions and forget less (docs/quality.md). Less than the base model's mean is
    never as much.

    Args:
        top_Q: nDCG@10 of each question by the weights that found most.
        later_Q: By later ones, or by a mixture.
        base_Q: By the base model, where it was measured.
    """
    if base_Q is not None and later_Q.mean() < base_Q.mean():
        return False
    return bool(paired_bootstrap(top_Q, later_Q).high >= 0)
