"""Interpolation of the best weights with the base model's, at the end of a run.

Wortsman et al., 2022, arXiv:2109.01903 (WiSE-FT); for embeddings Xiao et al., 2023,
arXiv:2311.13534. ``base_share`` is 1 minus WiSE-FT's alpha.
"""

from __future__ import annotations

import logging

from torch import Tensor

from embedft.encoder.checkpoint import load_weights, read_checkpoint
from embedft.evaluation.metrics import PRIMARY
from embedft.run.best import not_significantly_worse
from embedft.run.run import Run
from embedft.run.signals import raise_if_sigterm

log = logging.getLogger(__name__)


def interpolate_with_base(run: Run) -> dict[str, Tensor] | None:
    """Interpolates the best weights with the base model's, as far as nDCG@10 allows.

    The shares of the base model are the module's ``base_share``, its half and its quarter. The
    first is taken whose nDCG@10 is not significantly worse; its evaluation replaces the best one.
    Runs on all ranks.

    Args:
        run: After ``fit``. The module has the same weights afterwards.

    Returns:
        The encoder's weights on the CPU; None if each share is significantly worse.
    """
    trainer, encoder = run.trainer, run.module.encoder
    last = encoder.weights()
    tuned = _best_weights(run)
    base = encoder.base_weights()
    largest = run.module.base_share
    chosen = None
    loggers, trainer.loggers = trainer.loggers, []  # their curves are of the weights in training
    for share in (largest, largest / 2, largest / 4):
        weights = interpolated(tuned, base, share)
        encoder.load_state_dict(weights)
        if _replaces_best(run, share):
            chosen = weights
            break
    trainer.loggers = loggers
    encoder.load_state_dict(last)
    return chosen


def interpolated(
    tuned: dict[str, Tensor], base: dict[str, Tensor], share: float
) -> dict[str, Tensor]:
    """Tuned weights, each moved towards the base model's by a share, in the tuned ones' dtype.

    Args:
        tuned: Weights by name; those that are not floating point stay as they are.
        base: Of the same names.
        share: Of the base model, from 0 to 1.
    """
    return {
        name: weight.lerp(base[name].to(weight), share) if weight.is_floating_point() else weight
        for name, weight in tuned.items()
    }


def _best_weights(run: Run) -> dict[str, Tensor]:
    """The weights of ``best.ckpt`` on each rank: only the first may have the file."""
    encoder, best = run.module.encoder, run.folder.best_checkpoint
    if run.trainer.is_global_zero:
        load_weights(encoder, read_checkpoint(best), best)
    weights: dict[str, Tensor] = run.trainer.strategy.broadcast(encoder.weights())
    encoder.load_state_dict(weights)
    return weights


def _replaces_best(run: Run, share: float) -> bool:
    """Evaluates the module's weights; if they are good enough, keeps that as the best one."""
    trainer, module, evaluations = run.trainer, run.module, run.metrics_log.evaluations
    with run.metrics_log.paused():
        trainer.validate(module, datamodule=run.data, verbose=False)
    raise_if_sigterm(trainer)
    metrics, results = module.last_evaluation, module.last_query_results
    best = evaluations.metrics["best"]
    log.info("base_share %g: nDCG@10 %.4f (%.4f without)", share, metrics[PRIMARY], best[PRIMARY])
    base_Q = evaluations.base_ndcg(results.task)
    best_Q, groups_Q = evaluations.results["best"].ndcg, run.data.task.groups
    if not not_significantly_worse(best_Q, results.ndcg, base_Q, groups_Q):
        return False
    entry = evaluations.entry(best["step"], trainer.current_epoch, metrics, results)
    evaluations.metrics["best"] = entry | {"base_share": share}
    evaluations.results["best"] = results
    return True
