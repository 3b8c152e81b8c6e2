"""The last choice of a run: how much of the base model the best model keeps."""

from __future__ import annotations

import logging
from pathlib import Path

from lightning.pytorch import Trainer
from torch import Tensor

from embedft.data.datamodule import EmbeddingDataModule
from embedft.encoder.checkpoint import load_weights, read_checkpoint
from embedft.run.best import METRIC, not_significantly_worse
from embedft.run.metrics_log import MetricsLog
from embedft.run.signals import raise_if_sigterm
from embedft.training.module import EmbeddingModule

log = logging.getLogger(__name__)


def interpolate_with_base(
    trainer: Trainer,
    module: EmbeddingModule,
    data: EmbeddingDataModule,
    metrics_log: MetricsLog,
    best: Path,
) -> dict[str, Tensor] | None:
    """The best weights mixed with the base model's; None where every share surely costs some gain.

    Shares are the recipe's ``base_share``, its half and its quarter; the first is taken that
    :func:`not_significantly_worse`. Its evaluation replaces the best one. Runs on all ranks.

    Wortsman et al., 2022, arXiv:2109.01903 (WiSE-FT); for embeddings Xiao et al., 2023,
    arXiv:2311.13534.

    Args:
        trainer: After ``fit``.
        module: Its weights are afterwards what they were.
        data: The data of the fit.
        metrics_log: Holds the evaluations.
        best: Checkpoint of the best weights; the first rank reads it.

    Returns:
        The encoder's weights, on the CPU.
    """
    encoder, evaluations, results = (
        module.encoder,
        metrics_log.evaluations,
        metrics_log.query_results,
    )
    last = encoder.weights()
    if trainer.is_global_zero:
        load_weights(encoder, read_checkpoint(best), best)
    tuned = trainer.strategy.broadcast(encoder.weights())
    encoder.load_state_dict(tuned)
    untrained = encoder.base_weights()
    without = evaluations["best"][METRIC]
    mixed = None
    metrics_log.weights_name = "interpolated"
    loggers, trainer.loggers = trainer.loggers, []  # curves are of the weights in training
    asked = module.recipe.base_share
    for share in (asked, asked / 2, asked / 4):
        weights = {
            name: weight.lerp(untrained[name].to(weight), share)
            if weight.is_floating_point()
            else weight
            for name, weight in tuned.items()
        }
        encoder.load_state_dict(weights)
        trainer.validate(module, datamodule=data, verbose=False)
        raise_if_sigterm(trainer)
        evaluation, found = evaluations.pop("interpolated"), results.pop("interpolated")
        log.info("base_share %g: nDCG@10 %.4f (%.4f without)", share, evaluation[METRIC], without)
        before = results["base"].ndcg if "base" in results else None
        if not_significantly_worse(results["best"].ndcg, found.ndcg, before):
            step = evaluations["best"]["step"]
            evaluations["best"] = evaluation | {"step": step, "base_share": share}
            results["best"], mixed = found, weights
            break
    metrics_log.weights_name, trainer.loggers = "last", loggers
    encoder.load_state_dict(last)
    return mixed
