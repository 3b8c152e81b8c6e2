"""Whether answers fit their own questions, or those of rows nearby: columns may have drifted.

Shape suffixes: Q sampled questions, W offsets, D embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

MOST_ROWS = 20
"""Rows above and below whose answers are compared with the own one."""
OFFSETS = tuple(offset for offset in range(-MOST_ROWS, MOST_ROWS + 1) if offset)
MIN_QUESTIONS = 50
"""Questions below which nothing is said."""

_FEW_IN_TOP_10 = 0.25
_MANY_BELOW_RANDOM = 0.25
_OFTEN = 0.15  # share of the questions for which one offset has the best answer
_AT_LEAST = 10  # and how many questions: neighbours in a file are alike
_TIMES_OTHERS = 4  # and how many times that of the median offset
_EXAMPLES = 3


class AnswerFit(NamedTuple):
    """How well the answers of sampled rows fit their questions, by the base model.

    Attributes:
        rows: (Q,) the sampled rows.
        first: Share of the questions whose own answer ranks first among those of the sample.
        top_10: Share of the questions whose own answer is among the first ten.
        below_random: Share of the questions to which the own answer is less similar than half of
            the others.
        by_offset: By number of rows below, the share of the questions that the answer there fits
            best, and better than the own one. Only offsets that stand out.
        worst: The sampled rows that fit worst, at most three.
        shifted: Sampled rows that an answer at such an offset fits best, at most three.
    """

    rows: NDArray[np.int64]
    first: float
    top_10: float
    below_random: float
    by_offset: dict[int, float]
    worst: Sequence[int]
    shifted: Sequence[int]

    def problems(self, lines_of: Callable[[Sequence[int]], list[int]]) -> Iterator[str]:
        """What is wrong, and what to do; ``lines_of`` gives the lines of rows in the file."""
        count = len(self.rows)
        if count < MIN_QUESTIONS:
            return
        if self.by_offset:
            parts = (f"{share:.0%} fit {_at(offset)}" for offset, share in self.by_offset.items())
            yield (
                f"of {count} sampled questions, {', '.join(parts)} better than their own: the "
                "answers seem to be shifted against the questions. Look at lines "
                f"{_join(lines_of(self.shifted))}"
            )
        if self.top_10 < _FEW_IN_TOP_10:
            yield (
                f"the base model ranks the right answer first for {self.first:.1%} of {count} "
                f"sampled questions and in its top 10 for {self.top_10:.1%} (chance: "
                f"{1 / count:.1%} and {10 / count:.1%}). Check that each answer belongs to its "
                f"question, as in lines {_join(lines_of(self.worst))}"
            )
        if self.below_random > _MANY_BELOW_RANDOM:
            yield (
                f"{self.below_random:.0%} of {count} sampled questions are less similar to their "
                "answer than to a random one (50% if no answer fits). Check lines "
                f"{_join(lines_of(self.worst))}"
            )


def _at(offset: int) -> str:
    rows = "1 row" if abs(offset) == 1 else f"{abs(offset)} rows"
    return f"the answer {rows} {'below' if offset > 0 else 'above'}"


def _join(lines: Sequence[int]) -> str:
    return ", ".join(map(str, lines))


def measure_answer_fit(
    rows: NDArray[np.int64],
    question_QD: Tensor,
    answer_QD: Tensor,
    neighbour_QWD: Tensor,
    irrelevant_QQ: Tensor,
    exists_QW: Tensor,
) -> AnswerFit:
    """Compares each question's own answer with those of the others and with those nearby.

    Args:
        rows: (Q,) the sampled rows.
        question_QD: Embeddings, not necessarily of unit length.
        answer_QD: Those of their own answers.
        neighbour_QWD: Those of the answers at :data:`OFFSETS`.
        irrelevant_QQ: bool, [i, j]: answer j is no answer to question i.
        exists_QW: bool, whether there is such an answer, and it is no answer to the question.
    """
    question_QD, answer_QD, neighbour_QWD = (
        functional.normalize(vectors.float(), dim=-1)
        for vectors in (question_QD, answer_QD, neighbour_QWD)
    )
    own_Q = (question_QD * answer_QD).sum(-1)
    others_QQ = question_QD @ answer_QD.T
    rank_Q = 1 + ((others_QQ > own_Q[:, None]) & irrelevant_QQ).sum(1)
    random_Q = (others_QQ * irrelevant_QQ).sum(1) / irrelevant_QQ.sum(1).clamp(min=1)
    near_QW = torch.einsum("qd,qwd->qw", question_QD, neighbour_QWD)
    near_QW = near_QW.masked_fill(~exists_QW, -torch.inf)
    best_Q, offset_Q = near_QW.max(1)
    offset_Q = offset_Q.masked_fill(best_Q <= own_Q, -1)
    share_W = np.array([float((offset_Q == w).float().mean()) for w in range(len(OFFSETS))])
    often = (share_W >= _OFTEN) & (share_W >= _TIMES_OTHERS * np.median(share_W))
    often &= share_W * len(rows) >= _AT_LEAST
    shifted = torch.isin(offset_Q, torch.from_numpy(np.flatnonzero(often)).to(offset_Q.device))
    margin_Q = (own_Q - random_Q).cpu().numpy()
    return AnswerFit(
        rows=rows,
        first=float((rank_Q == 1).float().mean()),
        top_10=float((rank_Q <= 10).float().mean()),
        below_random=float((rank_Q - 1 > irrelevant_QQ.sum(1) / 2).float().mean()),
        by_offset={OFFSETS[w]: float(share_W[w]) for w in np.flatnonzero(often)},
        worst=sorted(rows[np.argsort(margin_Q, kind="stable")[:_EXAMPLES]].tolist()),
        shifted=rows[shifted.cpu().numpy()][:_EXAMPLES].tolist(),
    )
