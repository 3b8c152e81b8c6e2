from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from embedft.evaluation.answer_fit import OFFSETS, AnswerFit, measure_answer_fit

ROWS = 200


def measured(answer_of: Sequence[int], noise: float = 0.1) -> AnswerFit:
    """Questions are near the vector of their row, the answer of row i that of ``answer_of[i]``."""
    torch.manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(ROWS, 32), dim=-1)
    questions = vectors + noise * torch.randn(ROWS, 32)
    answers = vectors[torch.tensor(answer_of)]
    near = np.arange(ROWS)[:, None] + np.array(OFFSETS)
    exists = (near >= 0) & (near < ROWS)
    return measure_answer_fit(
        10 + np.arange(ROWS),
        questions,
        answers,
        answers[torch.from_numpy(np.where(exists, near, 0))],
        ~torch.eye(ROWS, dtype=torch.bool),
        torch.from_numpy(exists),
    )


def problems(fit: AnswerFit) -> list[str]:
    return list(fit.problems(lambda rows: [row + 1 for row in rows]))


def test_answers_of_their_own_rows_are_no_problem() -> None:
    fit = measured(range(ROWS))
    assert (fit.first, fit.top_10, fit.below_random, fit.by_offset) == (1.0, 1.0, 0.0, {})
    assert problems(fit) == []


def test_drifted_answers_are_found_by_their_offsets() -> None:
    """The answer of a row stands 5 rows below it from row 80 on, and 10 from row 140 on."""
    shift = [0 if row < 80 else 5 if row < 140 else 10 for row in range(ROWS)]
    fit = measured([max(0, row - some) for row, some in enumerate(shift)])
    assert set(fit.by_offset) == {5, 10}
    assert fit.by_offset[5] == pytest.approx(0.3, abs=0.05)
    assert fit.first == pytest.approx(0.4, abs=0.02)
    first = problems(fit)[0]
    assert "28% fit the answer 5 rows below, 28% fit the answer 10 rows below better than" in first
    assert " 91, " in first


def test_answers_in_any_order_are_no_better_than_chance() -> None:
    fit = measured(np.random.default_rng(0).permutation(ROWS).tolist())
    assert fit.by_offset == {}
    rank, random = problems(fit)
    assert "ranks the right answer first for" in rank
    assert "(chance: 0.5% and 5.0%)" in rank
    assert (
        "of 200 sampled questions are less similar to their answer than to a random one" in random
    )


def test_nothing_is_said_of_few_questions() -> None:
    fit = measured(np.random.default_rng(0).permutation(ROWS).tolist())
    assert problems(fit._replace(rows=fit.rows[:49])) == []
