"""The settings of a run, kept in its checkpoints: a resumed run says which of them differ."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from typing import Any

import torch
from lightning.pytorch import Trainer

from embedft.data.datamodule import EmbeddingDataModule
from embedft.errors import InputError
from embedft.losses import Loss

SETTINGS = "embedft_run_settings"
"""Key of the settings in a checkpoint."""

BASE_WEIGHTS = "base_weights"
"""Key of the digest of the base model's weights, in these settings."""

_PACKAGES = ("embedft", "torch", "lightning", "transformers", "numpy")


def run_settings(
    trainer: Trainer, data: EmbeddingDataModule, loss: Loss, module_settings: Mapping[str, Any]
) -> dict[str, Any]:
    """All settings that decide the weights of a run or which of them are best, as plain values.

    Args:
        trainer: Of the run.
        data: Of the run.
        loss: Of its attributes the numbers and strings are kept.
        module_settings: Settings of the module, by name.
    """
    loss_settings = {
        name: value
        for name, value in vars(loss).items()
        if isinstance(value, bool | int | float | str) and name != "training"
    }
    return {
        **module_settings,
        "loss": f"{type(loss).__name__} {loss_settings}",
        "max_epochs": trainer.max_epochs,
        "max_steps": trainer.max_steps,
        "limit_train_batches": trainer.limit_train_batches,
        "accumulate_grad_batches": trainer.accumulate_grad_batches,
        "gradient_clip_val": trainer.gradient_clip_val,
        "gradient_clip_algorithm": str(getattr(trainer.gradient_clip_algorithm, "value", "norm")),
        "val_check_interval": _plain(trainer.val_check_interval),
        "check_val_every_n_epoch": trainer.check_val_every_n_epoch,
        "min_epochs": trainer.min_epochs,
        "min_steps": trainer.min_steps,
        "callbacks": list(getattr(trainer, "asked_callbacks", ())),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "precision": trainer.precision,
        **data.plan_settings(),
        "negatives_per_pair": data.training.n_drawn_negatives,
        "hard_negatives": data.training.n_hard_negatives,
        "device": _device(trainer),
        **_versions(),
    }


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float | None) else str(value)


@cache
def _versions() -> dict[str, str]:
    return {f"{package} version": version(package) for package in _PACKAGES}


def _device(trainer: Trainer) -> str:
    device = trainer.strategy.root_device
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} {platform.machine()}, {torch.get_num_threads()} threads"


def differences(saved: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """One phrase for each setting that differs; settings that were not saved are left out."""
    return [
        f"{name} (was {saved.get(name)}, is {value})"
        for name, value in now.items()
        if name in saved and saved[name] != value
    ]


def refuse_other_weights(
    checkpoint: dict[str, Any], freeze_layers: int | None, base_weights: str
) -> None:
    """Refuses to resume a run that began with other weights, or trains others.

    Args:
        checkpoint: The checkpoint to resume from; one without a digest is accepted.
        freeze_layers: The module's setting.
        base_weights: Digest of the base model's weights.

    Raises:
        InputError: The checkpoint was made with other layers frozen, or from another base model.
    """
    saved = checkpoint.get(SETTINGS, {})
    was = saved.get("freeze_layers")
    if was != freeze_layers:
        raise InputError(
            f"cannot resume: freeze_layers was {was} and is now {freeze_layers}, so the "
            "optimiser's state fits other weights. Restore the old value, or start a new run "
            "without --ckpt_path last"
        )
    if base_weights_changed(checkpoint, base_weights):
        raise InputError(
            f"cannot resume: the weights of the base model are not those that the run began with "
            f"(base_model was {saved.get('base_model')}), so metrics would not be comparable. "
            "Restore them, or start a new run without --ckpt_path last"
        )


def base_weights_changed(checkpoint: dict[str, Any], base_weights: str) -> bool:
    """Whether a checkpoint knows the base model's weights, and they were others.

    Args:
        checkpoint: Of a run.
        base_weights: Digest of the base model's weights now.
    """
    return bool(checkpoint.get(SETTINGS, {}).get(BASE_WEIGHTS, base_weights) != base_weights)
