"""Low-rank adapters (LoRA) by peft: trained beside a backbone's matrices, merged for the export.

Adapters that come with a base model are merged when it is loaded.

Hu et al., 2021, arXiv:2106.09685.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from embedft.errors import InputError
from embedft.tools.text import error_line

_ADAPTER = "default"

# The settings of peft's LoraConfig that do not change the base model's own weights.
_SETTINGS = (
    "r",
    "lora_alpha",
    "lora_dropout",
    "target_modules",
    "layers_to_transform",
    "use_rslora",
)


def add_lora(backbone: PreTrainedModel, settings: dict[str, Any]) -> None:
    """Adds adapters to a backbone, in place, and freezes all other weights.

    Args:
        backbone: Its matrices get adapters whose product is zero at first.
        settings: Settings of ``peft.LoraConfig``; ``target_modules`` is ``all-linear`` by default.

    Raises:
        InputError: peft is not installed, or refuses the settings.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise InputError(
            "lora: peft is not installed. Install it with: pip install 'embedft[lora]'"
        ) from None
    if unknown := settings.keys() - set(_SETTINGS):
        raise InputError(
            f"lora: there is no setting {sorted(unknown)[0]}. Use {', '.join(_SETTINGS)}"
        )
    rank, largest = settings.get("r", 1), int(backbone.config.hidden_size)
    if type(rank) is not int or not 1 <= rank <= largest:
        raise InputError(f"lora: r is {rank}, must be from 1 to {largest}, the size of a layer")
    try:
        config = LoraConfig(**{"target_modules": "all-linear"} | settings)
        inject_adapter_in_model(config, backbone, adapter_name=_ADAPTER)
    except (TypeError, ValueError) as error:
        raise InputError(f"lora: {error_line(error, 300)}") from None


def merged_weights(backbone: PreTrainedModel) -> dict[str, Tensor]:
    """The weights of the equivalent backbone without adapters, by the base model's names."""
    state = backbone.state_dict()
    merged = {plain_name(name): weight for name, weight in state.items() if ".lora_" not in name}
    for name, module in backbone.named_modules():
        if f"{name}.lora_A.{_ADAPTER}.weight" in state:
            with torch.no_grad():
                delta = module.get_delta_weight(_ADAPTER)
            merged[f"{name}.weight"] = merged[f"{name}.weight"] + delta
    return merged


def with_adapters_merged(backbone: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """A backbone with the adapters in a folder merged into its weights.

    Args:
        backbone: transformers has loaded the adapters already if its own weights are in ``folder``.
        folder: As peft saves adapters.

    Raises:
        ImportError: peft is not installed.
        RuntimeError: The adapters are of a kind that can't be merged.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    if not getattr(backbone, "_hf_peft_config_loaded", False):
        backbone.load_adapter(str(folder))
    for name, module in list(backbone.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            backbone.set_submodule(name, module.get_base_layer())
    # Another model, since transformers would save this one as adapters.
    merged: PreTrainedModel = type(backbone)(backbone.config)
    merged.load_state_dict(backbone.state_dict())
    return merged


def plain_name(name: str) -> str:
    """The base model's name of a weight of a backbone with adapters."""
    return name.replace(".base_layer.", ".")


def without_adapters(state: dict[str, Tensor], base: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state with adapters that is equivalent to the base model.

    Only the second factor of each adapter is zero. A mean of ``state`` and this result is therefore
    equivalent to the same mean of the tuned model and the base model.

    Args:
        state: Weights of a backbone, with or without adapters.
        base: Weights of the base model.
    """
    return {
        name: weight
        if ".lora_A." in name
        else torch.zeros_like(weight)
        if ".lora_B." in name
        else base[plain_name(name)]
        for name, weight in state.items()
    }
