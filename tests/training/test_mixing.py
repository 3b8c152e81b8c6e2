from __future__ import annotations

import numpy as np
import pytest

from embedft.training.mixing import keeps_the_gain


@pytest.mark.parametrize(
    ("questions", "base", "tuned", "mixed", "kept"),
    [
        (40, 0.70, 0.80, 0.77, True),  # less than 80% of the gain, by chance
        (4000, 0.70, 0.80, 0.77, False),  # surely less
        (4000, 0.70, 0.80, 0.79, True),
        (40, 0.70, 0.80, 0.69, False),  # finds less than the base model
        (4000, 0.80, 0.70, 0.81, True),  # training lost, the mixture did not
        (4000, 0.80, 0.70, 0.79, False),
    ],
)
def test_a_mixture_keeps_the_gain(
    questions: int, base: float, tuned: float, mixed: float, kept: bool
) -> None:
    """Right answers are found in the first place or not at all; models agree on most questions."""
    places = np.arange(questions) / questions
    found = (np.asarray([[base], [tuned], [mixed]]) > places).astype(np.float64)
    assert keeps_the_gain(*found) is kept
