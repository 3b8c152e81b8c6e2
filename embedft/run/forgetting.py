"""What a tuned model has forgotten: pairs of another domain, measured before and after."""

from __future__ import annotations

from typing import Any

import numpy as np
from lightning.pytorch import Trainer
from numpy.typing import NDArray

from embedft.data.datamodule import EmbeddingDataModule
from embedft.encoder.encoder import Encoder
from embedft.errors import InputError
from embedft.evaluation.bootstrap import Interval, paired_bootstrap
from embedft.run.signals import raise_if_sigterm
from embedft.training.module import EmbeddingModule

FORGETTING_LIMIT = 0.005
"""A loss of nDCG@10 that is worth a warning."""


def check_forgetting(data: EmbeddingDataModule, encoder: Encoder) -> None:
    """Reads the forgetting set of a run, if it has one, before training.

    Args:
        data: The data of the run, loaded.
        encoder: Of the run.

    Raises:
        InputError: It can't be used, or is what is trained on.
    """
    if data.guard_jsonl is None:
        return
    forgetting_set = _forgetting_data(data)
    forgetting_set.load(encoder, False, "test")
    if forgetting_set.digests[data.guard_jsonl] == data.digests[data.input_jsonl]:
        raise InputError(
            f"--data.guard_jsonl: {data.guard_jsonl} holds the pairs that are trained on; give "
            "pairs of another field"
        )


def _forgetting_data(data: EmbeddingDataModule) -> EmbeddingDataModule:
    """Every question of the forgetting set is measured."""
    assert data.guard_jsonl is not None
    return EmbeddingDataModule(
        data.guard_jsonl,
        train_split=0,
        on_bad_rows=data.on_bad_rows,
        eval_batch_size=data.eval_batch_size,
        cache_dir=str(data.cache_dir),
    )


def measure_forgetting(
    module: EmbeddingModule, data: EmbeddingDataModule, trainer: Trainer
) -> dict[str, Any]:
    """The forgetting set by the module's weights and by those of its base model. Runs on all ranks.

    Args:
        module: The tuned model.
        data: The data of the run.
        trainer: Of the run.

    Returns:
        ``file``, nDCG@10 ``before`` and ``after``, and the interval of their ``change``.
    """
    forgetting_set = _forgetting_data(data)
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
        "change": paired_bootstrap(before_Q, after_Q)._asdict(),
    }


def forgetting_sentence(result: dict[str, Any]) -> str:
    """One plain sentence, a warning if more than ``FORGETTING_LIMIT`` is lost."""
    numbers = (
        f"nDCG@10 on {result['file']} {result['before']:.4f} before, {result['after']:.4f} after: "
        f"{Interval(**result['change'])}"
    )
    if result["after"] < result["before"] - FORGETTING_LIMIT:
        return f"The tuned model has FORGOTTEN more than {FORGETTING_LIMIT} elsewhere ({numbers})."
    return f"The tuned model still finds what the base model found elsewhere ({numbers})."
