"""Forgetting: nDCG@10 on pairs of another field, before and after training."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedft.data.datamodule import EmbeddingDataModule
from embedft.encoder.encoder import Encoder
from embedft.errors import InputError
from embedft.evaluation.significance import Interval, paired_interval
from embedft.run.run import Run
from embedft.run.signals import raise_if_sigterm
from embedft.tools.text import file_label

FORGETTING_LIMIT = 0.005
"""A drop of nDCG@10 that is worth a warning."""


def check_forgetting(data: EmbeddingDataModule, encoder: Encoder) -> None:
    """Reads the forgetting set of a run, if it has one, before training.

    Args:
        data: The data of the run, loaded.
        encoder: Of the run.

    Raises:
        InputError: The file can't be used, or its pairs are the training pairs.
    """
    if data.guard_jsonl is None:
        return
    forgetting_set = _forgetting_set(data)
    forgetting_set.load(encoder, False, "test")
    if forgetting_set.digests[data.guard_jsonl] == data.digests[data.input_jsonl]:
        raise InputError(
            f"--data.guard_jsonl: {data.guard_jsonl} holds the training pairs; give pairs of "
            "another field"
        )


def _forgetting_set(data: EmbeddingDataModule) -> EmbeddingDataModule:
    """The data of ``guard_jsonl``; every question of it is evaluated."""
    assert data.guard_jsonl is not None
    return EmbeddingDataModule(
        data.guard_jsonl,
        train_split=0,
        on_bad_rows=data.on_bad_rows,
        eval_batch_size=data.eval_batch_size,
        cache_dir=str(data.cache_dir),
    )


def evaluate_forgetting(run: Run) -> dict[str, Any]:
    """Evaluates the module's weights and the base model's on the forgetting set.

    Runs on all ranks.

    Args:
        run: Its module has the tuned weights, before and afterwards.

    Returns:
        ``file``, nDCG@10 ``before`` and ``after``, and the interval of their ``change``.
    """
    trainer, module = run.trainer, run.module
    forgetting_set = _forgetting_set(run.data)
    loggers, trainer.loggers = trainer.loggers, []

    def ndcg() -> NDArray[np.float64]:
        trainer.test(module, datamodule=forgetting_set, verbose=False)
        raise_if_sigterm(trainer)
        return module.last_query_results.ndcg

    after_Q = ndcg()
    tuned = module.encoder.weights()
    module.encoder.restore_base_weights()
    before_Q = ndcg()
    module.encoder.load_state_dict(tuned)
    trainer.loggers = loggers
    return {
        "file": forgetting_set.input_jsonl,
        "before": float(before_Q.mean()),
        "after": float(after_Q.mean()),
        "change": paired_interval(before_Q, after_Q, forgetting_set.task.groups)._asdict(),
    }


def forgetting_sentence(result: dict[str, Any]) -> str:
    """One plain sentence; a warning if nDCG@10 drops by more than ``FORGETTING_LIMIT``."""
    numbers = (
        f"nDCG@10 on {file_label(result['file'])} {result['before']:.4f} before, "
        f"{result['after']:.4f} after: "
        f"{Interval(**result['change'])}"
    )
    if result["after"] < result["before"] - FORGETTING_LIMIT:
        return f"The tuned model has FORGOTTEN more than {FORGETTING_LIMIT} ({numbers})."
    return f"The tuned model has not forgotten ({numbers})."
