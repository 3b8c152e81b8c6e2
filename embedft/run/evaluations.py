"""The evaluations of a run: of the base model, of the latest weights and of the best ones.

Shape suffix: Q held-out questions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from embedft.errors import InputError
from embedft.evaluation.metrics import PRIMARY
from embedft.evaluation.query_results import QueryResults
from embedft.evaluation.retrieval import RetrievalTask
from embedft.evaluation.significance import Groups, paired_gain
from embedft.run.best import is_highest, not_significantly_worse
from embedft.tools.text import error_line

EVALUATIONS_KEY = "RunFiles"
"""Key of the evaluations in checkpoints: an earlier name of the callback that keeps them."""


class RunEvaluations:
    """Metrics and results by question of ``base``, ``last`` and ``best``, as checkpoints keep them.

    Attributes:
        metrics: ``step``, ``epoch``, the metrics, and ``gain`` if the base model was evaluated.
        results: The results by question.
        groups_Q: (Q,) equal for questions that are not independent; None if each one is. It is
            set from the data before an evaluation is added, and not kept in checkpoints.
    """

    def __init__(self) -> None:
        self.metrics: dict[str, dict[str, Any]] = {}
        self.results: dict[str, QueryResults] = {}
        self.groups_Q: Groups | None = None
        self._highest_Q: NDArray[np.float64] | None = None
        """nDCG@10 of each question by the weights with the highest mean so far."""

    def entry(
        self,
        step: int,
        epoch: int,
        metrics: dict[str, float],
        results: QueryResults,
    ) -> dict[str, Any]:
        """An evaluation as it is kept, with the gain over the base model if that is known.

        Args:
            step: Of the evaluated weights.
            epoch: Of the evaluated weights.
            metrics: By name, without prefix.
            results: Of the same evaluation.
        """
        entry: dict[str, Any] = {"step": step, "epoch": epoch, **metrics}
        if (base_Q := self.base_ndcg(results.task)) is not None:
            entry["gain"] = paired_gain(base_Q, results.ndcg, self.groups_Q)._asdict()
        return entry

    def base_ndcg(self, task: str) -> NDArray[np.float64] | None:
        """(Q,) nDCG@10 by the base model; None if it was not evaluated on this retrieval task."""
        base = self.results.get("base")
        return base.ndcg if base is not None and base.task == task else None

    def add_base(self, entry: dict[str, Any], results: QueryResults) -> None:
        """Keeps the evaluation of the base model."""
        self.metrics["base"], self.results["base"] = entry, results

    def add_last(self, entry: dict[str, Any], results: QueryResults) -> None:
        """Keeps the evaluation of the latest weights, also as the best one if it is that."""
        names = ["last", "best"] if self._is_best(results) else ["last"]
        self.metrics |= dict.fromkeys(names, entry)
        self.results |= dict.fromkeys(names, results)

    def _is_best(self, results: QueryResults) -> bool:
        highest_Q = self._highest_Q if "best" in self.metrics else None
        if highest_Q is None or is_highest(highest_Q, results.ndcg):
            self._highest_Q = results.ndcg
            return True
        return not_significantly_worse(
            highest_Q, results.ndcg, self.base_ndcg(results.task), self.groups_Q
        )

    def state_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {
            "evaluations": self.metrics,
            "findings": {name: results.state_dict() for name, results in self.results.items()},
            "top": None if self._highest_Q is None else torch.from_numpy(self._highest_Q),
        }

    def load_state_dict(self, state: dict[str, Any], has_best: bool) -> None:
        """Restores the evaluations of a resumed run.

        Args:
            state: By :meth:`state_dict`.
            has_best: Whether ``best.ckpt`` is the checkpoint of the best weights; else ``best`` is
                forgotten.

        Raises:
            ValueError: The state is not one of :meth:`state_dict`; or a KeyError or TypeError.
        """
        self.metrics = dict(state["evaluations"])
        self.results = {
            name: QueryResults.from_state_dict(results)
            for name, results in state.get("findings", {}).items()
        }
        if any(PRIMARY not in entry for entry in self.metrics.values()):
            raise ValueError(f"an evaluation has no {PRIMARY}")
        if (highest := state.get("top")) is not None:
            if highest.dtype != torch.float64 or highest.dim() != 1:
                raise ValueError("the highest values are not numbers, one a question")
            self._highest_Q = highest.numpy()
        elif "best" in self.results:  # early checkpoints have no ``top``
            self._highest_Q = self.results["best"].ndcg
        if not has_best:
            self.metrics.pop("best", None)


def refuse_bad_evaluations(state: dict[str, Any], task: RetrievalTask, name: str) -> None:
    """Refuses evaluations in a checkpoint that can't be those of a retrieval task.

    Args:
        state: By :meth:`RunEvaluations.state_dict`, or empty.
        task: The task of the run that is resumed.
        name: Its name; results of another task are not looked at.

    Raises:
        InputError: The evaluations can't be read, or name questions or answers that do not exist.
    """
    if not state:
        return
    evaluations = RunEvaluations()
    try:
        evaluations.load_state_dict(state, has_best=True)
        for found in evaluations.results.values():
            if found.task == name and not found.fits(len(task.queries), len(task.corpus)):
                raise ValueError("an evaluation names questions or answers that do not exist")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"cannot resume: the checkpoint's evaluations: {error_line(error)}"
        ) from None
