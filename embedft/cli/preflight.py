"""What ``fit``, ``validate``, ``test`` and ``predict`` refuse before they touch a file.

In the order of a run: :func:`check_seed` and :func:`check_command` need only the settings,
:func:`check_trainer` the settings of the Trainer, :func:`check_weights` the model, and
:func:`check_run` the data.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Trainer

from embedft.data.datamodule import EmbeddingDataModule
from embedft.data.resume import ResumeState
from embedft.data.split import check_train_split
from embedft.encoder.base_model import best_model_of_run
from embedft.encoder.checkpoint import changed_settings, load_weights
from embedft.errors import InputError, check_at_least
from embedft.run.claim import Claim
from embedft.run.evaluations import EVALUATIONS_KEY, refuse_bad_evaluations
from embedft.run.folder import check_writable
from embedft.run.forgetting import check_forgetting
from embedft.run.predictions import check_predictions, predictions_folder
from embedft.table.jsonl import unreadable_error
from embedft.training.limits import check_end, check_interval, check_numbers
from embedft.training.module import EmbeddingModule
from embedft.training.optimizer_state import refuse_bad_state
from embedft.training.resume import base_weights_changed, refuse_other_weights

log = logging.getLogger(__name__)

# Retrieval is evaluated on all texts or not at all, and all texts are embedded by predict.
_NOTHING_LEFT_OUT: dict[str, tuple[Any, ...]] = {
    "fast_dev_run": (False,),
    "overfit_batches": (0.0,),
    "limit_val_batches": (None,),
    "limit_test_batches": (None,),
    "limit_predict_batches": (None,),
    "num_sanity_val_steps": (-1, 0),
}


def check_seed(seed: int | None) -> None:
    """Refuses a seed that random number generators do not take.

    Raises:
        InputError: It is negative, or needs more than 32 bits.
    """
    if seed is not None and not 0 <= seed < 2**32:
        raise InputError(f"seed: is {seed}, must lie between 0 and {2**32 - 1}")


def check_command(subcommand: str, settings: Namespace, claim: Claim) -> None:
    """Refuses what can be refused before a model is loaded.

    Wrong settings come before a used folder: whoever mistypes a flag is not told to delete a run.
    ``check`` reports on the file first, so its settings are checked later.

    Args:
        subcommand: ``check``, ``fit``, ``validate``, ``test`` or ``predict``.
        settings: Those of the subcommand.
        claim: On the output folder.

    Raises:
        InputError: A setting is out of range, a file is missing, or an output may not be written.
    """
    if subcommand != "check":
        _check_ranges(subcommand, settings)
        _check_files(settings.data)
    resumes = subcommand == "fit" and settings.ckpt_path
    _check_page(settings.report, "--report", settings.overwrite or resumes)
    if subcommand == "fit":
        claim.check(settings.ckpt_path, settings.overwrite, _inputs(settings))
    elif subcommand == "check":
        _check_page(settings.html, "--html", settings.overwrite)
    elif subcommand == "predict":
        check_predictions(predictions_folder(claim.folder), settings.overwrite)


def _check_ranges(subcommand: str, settings: Namespace) -> None:
    data, model, trainer = settings.data, settings.model, settings.trainer
    EmbeddingDataModule(**data.as_dict())  # its constructor checks
    most = max(16, 2 * (os.cpu_count() or 1))
    if data.num_workers > most:
        raise InputError(f"num_workers: is {data.num_workers}, must be at most {most} here")
    check_numbers(
        model.chunk_size,
        model.base_share,
        model.learning_rate,
        model.warmup_steps,
        model.dropout,
        model.weight_decay,
    )
    if subcommand != "fit":
        return
    check_end(trainer.max_epochs, trainer.max_steps)
    if data.validation_jsonl is None:
        check_train_split(data.train_split)
    check_at_least(1, save_steps=settings.save_steps, save_total_limit=settings.save_total_limit)
    check_at_least(
        1,
        accumulate_grad_batches=trainer.accumulate_grad_batches,
        check_val_every_n_epoch=trainer.check_val_every_n_epoch,
    )


def _check_files(data: Namespace) -> None:
    for flag, path in (
        ("--input_jsonl", data.input_jsonl),
        ("--validation_jsonl", data.validation_jsonl),
        ("--data.guard_jsonl", data.guard_jsonl),
    ):
        if path is not None and not Path(path).exists():
            raise unreadable_error(Path(path), FileNotFoundError(), flag)


def _inputs(settings: Namespace) -> dict[str, list[str]]:
    """What a fit reads, by flag."""
    data, model = settings.data, settings.model.base_model
    inputs = {
        "--input_jsonl": [data.input_jsonl],
        "--validation_jsonl": [data.validation_jsonl],
        "--data.guard_jsonl": [data.guard_jsonl],
        "--config": settings.get("config") or [],
        "--base_model": [best_model_of_run(Path(model)) or model],
    }
    return {flag: [str(path) for path in paths if path] for flag, paths in inputs.items()}


def _check_page(page: str | None, flag: str, may_replace: bool) -> None:
    if page is None:
        return
    if Path(page).exists() and not may_replace:
        raise InputError(f"{page}: exists already; give another {flag} or --overwrite")
    check_writable(Path(page).parent, flag)


def check_trainer(settings: Namespace) -> None:
    """Refuses settings of Lightning's that leave out texts, or log nothing.

    Raises:
        InputError: There is one.
    """
    for name, accepted in _NOTHING_LEFT_OUT.items():
        if settings[name] not in accepted:
            raise InputError(
                f"trainer.{name}: would skip texts that must be evaluated or embedded; remove this "
                "setting (for a short trial of fit use --trainer.max_steps 5)"
            )
    check_at_least(1, **{"trainer.log_every_n_steps": settings["log_every_n_steps"]})


def check_weights(
    subcommand: str, module: EmbeddingModule, checkpoint: dict[str, Any], path: Path
) -> None:
    """Loads the weights of a checkpoint, so that a misfit is one clear line.

    Lightning loads them again. A warning names settings that differ from those of the training.

    Raises:
        InputError: The weights are of another model.
    """
    load_weights(module.encoder, checkpoint, path)
    if subcommand == "fit":
        return
    changed = changed_settings(module.encoder, module.hparams, checkpoint)
    if subcommand == "test" and base_weights_changed(checkpoint, module.base_digest):
        changed.append("the weights of the base model, with which test compares")
    if changed:
        log.warning(
            "%s: settings differ from the training of the checkpoint: %s; the config.yaml of its "
            "run has the settings of the training",
            subcommand,
            ", ".join(changed),
        )


def check_run(
    trainer: Trainer,
    module: EmbeddingModule,
    data: EmbeddingDataModule,
    checkpoint: dict[str, Any] | None,
) -> None:
    """Refuses what only loaded data can tell; the last checks before the folder of a run is made.

    Args:
        trainer: Of the run.
        module: Of the run.
        data: Loaded, and knows the trainer.
        checkpoint: The one that is resumed; None for a new run.

    Raises:
        InputError: An interval is longer than an epoch, the checkpoint is of another run, or the
            forgetting set can't be used.
    """
    check_interval(trainer, data)
    if checkpoint is not None:
        epochs, done = trainer.max_epochs, checkpoint["epoch"]
        if epochs is not None and -1 < epochs < done:
            raise InputError(f"epochs: is {epochs}, but the run has done {done}; give more")
        saved = ResumeState.of(checkpoint.get(type(data).__qualname__, {}))
        saved.refuse_other_run(data.made_with())
        refuse_other_weights(checkpoint, module.hparams["freeze_layers"], module.base_digest)
        refuse_bad_state(checkpoint, trainer, module.encoder)
        found = checkpoint.get("callbacks", {}).get(EVALUATIONS_KEY, {})
        refuse_bad_evaluations(found, data.task, data.fit_data.task_name)
    check_forgetting(data, module.encoder)
