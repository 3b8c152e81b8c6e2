"""What a resumed run takes from a checkpoint's optimiser, schedule and loops, and what it refuses.

A fused optimiser writes without a look at shapes, so a state of another shape would be written
beyond its end.
"""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from embedft.encoder.checkpoint_schema import is_count, is_number
from embedft.errors import InputError
from embedft.tools.finite import all_finite
from embedft.training.optimizer import parameter_groups

_MOMENTS = ("exp_avg", "exp_avg_sq")


def refuse_bad_state(checkpoint: dict[str, Any], trainer: Trainer, encoder: nn.Module) -> None:
    """Refuses a state of the optimiser, the schedule or the loops that a run could not have saved.

    Args:
        checkpoint: The checkpoint to resume from.
        trainer: Of the run.
        encoder: Of the run; its weights tell the shapes.

    Raises:
        InputError: Names what does not fit.
    """
    try:
        _check_optimizer(checkpoint["optimizer_states"], encoder)
        _check_schedule(checkpoint["lr_schedulers"])
        if checkpoint.get("EmbeddingDataModule", {}).get("epoch", 0) > checkpoint["epoch"] + 1:
            raise ValueError("data is of a later epoch than its weights")
        _check_loops(trainer.fit_loop.state_dict(), checkpoint["loops"]["fit_loop"])
    except KeyError as error:
        raise InputError(f"cannot resume: the checkpoint has no {error.args[0]}") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"cannot resume: the checkpoint's {error}; use another one") from None


def take_progress_only(checkpoint: dict[str, Any], encoder: nn.Module) -> None:
    """Leaves of optimiser and schedule, in place, only what this run's own settings do not say.

    Args:
        checkpoint: One that :func:`refuse_bad_state` accepts.
        encoder: Of the run.
    """
    (optimizer,) = checkpoint["optimizer_states"]
    (schedule,) = checkpoint["lr_schedulers"]
    fresh = torch.optim.AdamW(parameter_groups(encoder, 0.0)).state_dict()["param_groups"]
    own = {"lr", "initial_lr", "weight_decay", "fused"}
    for saved, default in zip(optimizer["param_groups"], fresh, strict=True):
        kept = {name: value for name, value in saved.items() if name in own}
        saved.clear()
        saved.update(default | kept)
    progress = ("last_epoch", "_step_count", "_last_lr", "base_lrs")
    kept = {name: schedule[name] for name in progress if name in schedule}
    schedule.clear()
    schedule.update(kept | {"lr_lambdas": [None] * len(fresh)})


def _check_optimizer(states: Any, encoder: nn.Module) -> None:
    if len(states) != 1 or not isinstance(states[0], dict):
        raise ValueError("optimiser is not the one of this run")
    groups, state = states[0]["param_groups"], states[0]["state"]
    if not isinstance(state, dict) or not all(isinstance(group, dict) for group in groups):
        raise ValueError("optimiser has a state that is not a table")
    expected = parameter_groups(encoder, 0.0)
    parameters = [parameter for group in expected for parameter in group["params"]]
    indices = [group["params"] for group in groups]
    if [len(part) for part in indices] != [len(group["params"]) for group in expected]:
        raise ValueError("optimiser is of other weights")
    if [index for part in indices for index in part] != list(range(len(parameters))):
        raise ValueError("optimiser is of other weights")
    for group in groups:
        numbers = (group[name] for name in ("lr", "initial_lr", "weight_decay") if name in group)
        if not all(is_number(number) for number in numbers):
            raise ValueError("optimiser has a learning rate that is not a number")
        if not isinstance(group.get("fused"), bool | None):
            raise ValueError("optimiser has a setting that is not true or false")
    for index, values in state.items():
        if type(index) is not int or not 0 <= index < len(parameters):
            raise ValueError("optimiser is of other weights")
        _check_moments(values, parameters[index])


def _check_moments(values: Any, parameter: Tensor) -> None:
    """Checks the state of one weight."""
    if not isinstance(values, dict):
        raise ValueError("optimiser has a state that is not a table")
    step = values["step"]
    if isinstance(step, Tensor):
        step = float(step) if step.dim() == 0 and step.is_floating_point() else None
    if not is_number(step) or not 0 <= step < float("inf"):
        raise ValueError("optimiser has a step that is not a count")
    if values.keys() != {"step", *_MOMENTS}:
        raise ValueError("optimiser is not AdamW")
    for name in _MOMENTS:
        moment = values[name]
        if not isinstance(moment, Tensor) or not moment.is_floating_point():
            raise ValueError(f"optimiser has a {name} that is not a tensor of numbers")
        if moment.shape != parameter.shape:
            raise ValueError(
                f"optimiser has a {name} of shape {tuple(moment.shape)} for a weight of shape "
                f"{tuple(parameter.shape)}"
            )
        if not all_finite(moment):
            raise ValueError(f"optimiser has NaN or infinity in {name}")


def _check_schedule(schedules: Any) -> None:
    if len(schedules) != 1 or not isinstance(schedules[0], dict):
        raise ValueError("schedule is not the one of this run")
    schedule = schedules[0]
    counts = [schedule["last_epoch"], schedule.get("_step_count", 0)]
    if not all(is_count(count) for count in counts):
        raise ValueError("schedule has a step that is not a count")
    for name in ("_last_lr", "base_lrs"):
        rates = schedule.get(name, [])
        if not isinstance(rates, list) or not all(is_number(rate) for rate in rates):
            raise ValueError("schedule has a learning rate that is not a number")


def _check_loops(own: Any, saved: Any, name: str = "loops") -> None:
    """Checks that what Lightning will put into its loops is of the kind that is there."""
    if not isinstance(own, dict):
        if type(own) is not type(saved):
            raise ValueError(f"{name} is not of kind {type(own).__name__}")
        return
    if not isinstance(saved, dict):
        raise ValueError(f"{name} is not a table of counts")
    for key in own.keys() & saved.keys():
        _check_loops(own[key], saved[key], f"{name}.{key}")
