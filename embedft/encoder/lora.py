"""Low-rank adapters by peft: put beside a backbone's matrices, and added to them at the end.

Hu et al., 2021, arXiv:2106.09685.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from embedft.errors import InputError
from embedft.tools.text import error_line

_ADAPTER = "default"

# The settings of peft's LoraConfig that leave the base model's own weights as they are.
_SETTINGS = (
    "r",
    "lora_alpha",
    "lora_dropout",
    "target_modules",
    "layers_to_transform",
    "use_rslora",
)


def add_lora(backbone: PreTrainedModel, settings: dict[str, Any]) -> None:
    """Puts adapters into a backbone, in place, and freezes all else.

    Args:
        backbone: Its matrices get a part that is zero at first.
        settings: Of ``peft.LoraConfig``; ``target_modules`` is ``all-linear`` unless given.

    Raises:
        InputError: peft is not installed, or does not take the settings.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise InputError("lora: needs peft; install it with: pip install 'embedft[lora]'") from None
    if unknown := settings.keys() - set(_SETTINGS):
        raise InputError(f"lora: has {sorted(unknown)[0]}; the settings are {', '.join(_SETTINGS)}")
    try:
        config = LoraConfig(**{"target_modules": "all-linear"} | settings)
        inject_adapter_in_model(config, backbone, adapter_name=_ADAPTER)
    except (TypeError, ValueError) as error:
        raise InputError(f"lora: {error_line(error, 300)}") from None


def merged_weights(backbone: PreTrainedModel) -> dict[str, Tensor]:
    """The weights that do without adapters what the backbone does with them, by its own names."""
    state = backbone.state_dict()
    merged = {plain_name(name): weight for name, weight in state.items() if ".lora_" not in name}
    for name, module in backbone.named_modules():
        if f"{name}.lora_A.{_ADAPTER}.weight" in state:
            with torch.no_grad():
                delta = module.get_delta_weight(_ADAPTER)
            merged[f"{name}.weight"] = merged[f"{name}.weight"] + delta
    return merged


def plain_name(name: str) -> str:
    """What a weight of a backbone with adapters is called without them."""
    return name.replace(".base_layer.", ".")


def without_adapters(state: dict[str, Tensor], base: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state with adapters that does what the base model does.

    Only the second factor of each adapter is zero. So a mean of this and the state is, in what it
    does, the mean of the base model and of the tuned one.

    Args:
        state: Weights of a backbone with adapters, or without.
        base: Those of the base model.
    """
    return {
        name: weight
        if ".lora_A." in name
        else torch.zeros_like(weight)
        if ".lora_B." in name
        else base[plain_name(name)]
        for name, weight in state.items()
    }
