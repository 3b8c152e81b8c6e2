"""What follows pooling: dense layers, norms and dropout of the base model, length, truncation.

Shape suffixes: B texts, H hidden size, D embedding.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from embedft.encoder.base_model import OTHER_MODEL
from embedft.encoder.folder.model import BaseModel
from embedft.encoder.folder.settings import read_object, refuse_other_names, refuse_unknown
from embedft.errors import InputError
from embedft.tools.text import error_line

_DENSE_KEYS = {
    *("in_features", "out_features", "bias", "activation_function", "use_residual"),
    *("module_input_name", "module_output_name"),
}


def load_head(base: BaseModel, normalize: bool) -> Head:
    """The head of a base model.

    Args:
        base: Says which modules there are, and where.
        normalize: Scale embeddings to unit length.

    Raises:
        InputError: A module can't be used, or embeddings are not compared by cosine.
    """
    try:
        head = Head(base, normalize)
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"base_model {base.name}: {error_line(error)}{OTHER_MODEL}") from None
    # Of unit-length embeddings, the dot product is the cosine.
    compares = {"cosine", "dot", "euclidean"} if head.unit_length else {"cosine"}
    if base.similarity not in compares:
        raise InputError(
            f"base_model {base.name}: compares embeddings by {base.similarity}, embedft by cosine. "
            "To train it for cosine, give --model.normalize true"
        )
    return head


class Head(nn.Sequential):
    """From the pooled vector of a text to its embedding.

    Args:
        base: Says which modules there are, and the number of dimensions that are kept.
        normalize: Scale embeddings to unit length, before dimensions are dropped.

    Raises:
        ValueError: A module is not as it should be, or lacks its weights.
    """

    def __init__(self, base: BaseModel, normalize: bool) -> None:
        super().__init__(*(_module(kind, folder) for kind, folder in base.head))
        self.normalize, self.truncate_dim = normalize, base.truncate_dim
        widths = [module.out_features for module in self if isinstance(module, Dense)]
        dim = int(widths[-1] if widths else base.config.hidden_size)
        self.embedding_dim = dim if self.truncate_dim is None else min(dim, self.truncate_dim)

    def forward(self, input: Tensor) -> Tensor:
        """(B, H) pooled vectors to (B, D) embeddings of the same dtype, float32 or better."""
        embeddings_BD = input
        with torch.autocast(input.device.type, enabled=False):
            for module in self:
                dtype = next((weight.dtype for weight in module.parameters()), input.dtype)
                embeddings_BD = module(embeddings_BD.to(dtype)).to(input.dtype)
        if self.normalize:
            embeddings_BD = nn.functional.normalize(embeddings_BD, dim=-1)
        return embeddings_BD[:, : self.embedding_dim]

    @property
    def unit_length(self) -> bool:
        """Whether embeddings have unit length."""
        return self.normalize and self.truncate_dim is None

    @property
    def settings(self) -> list[Any]:
        """What decides about embeddings, except weights and ``normalize``; empty if nothing."""
        return [repr(self), self.truncate_dim] if len(self) or self.truncate_dim else []


class Dense(nn.Module):
    """A linear layer with an activation, as in sentence-transformers.

    Args:
        settings: Of the folder's ``config.json``.

    Raises:
        ValueError: A setting is not supported.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        refuse_unknown(settings, _DENSE_KEYS, "its Dense")
        refuse_other_names(settings, "its Dense")
        in_features, self.out_features = settings["in_features"], settings["out_features"]
        self.linear = nn.Linear(in_features, self.out_features, settings.get("bias", True))
        self.activation = _activation(settings.get("activation_function", "torch.nn.Tanh"))
        self.use_residual = bool(settings.get("use_residual", False))
        if self.use_residual and in_features != self.out_features:
            self.residual = nn.Linear(in_features, self.out_features, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """(B, in) to (B, out)."""
        output: Tensor = self.activation(self.linear(input))
        if not self.use_residual:
            return output
        return output + (self.residual(input) if hasattr(self, "residual") else input)


class _LayerNorm(nn.Module):
    """``nn.LayerNorm`` whose weights have the names of sentence-transformers."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        refuse_unknown(settings, {"dimension"}, "its LayerNorm")
        self.norm = nn.LayerNorm(settings["dimension"])

    def forward(self, input: Tensor) -> Tensor:
        normed: Tensor = self.norm(input)
        return normed


def _activation(name: str) -> nn.Module:
    library, _, kind = name.rpartition(".")
    activation = getattr(nn, kind, None)
    if not library.startswith("torch.nn") or not isinstance(activation, type):
        raise ValueError(f"its Dense has the activation {name}, which is not supported")
    try:
        module: nn.Module = activation()
    except TypeError:  # a module with arguments, or none at all
        raise ValueError(f"its Dense has the activation {name}, which is not supported") from None
    return module


def _module(kind: str, folder: Path) -> nn.Module:
    settings = read_object(folder / "config.json")
    if kind == "Dropout":
        refuse_unknown(settings, {"dropout"}, "its Dropout")
        return nn.Dropout(settings.get("dropout", 0.2))
    module = Dense(settings) if kind == "Dense" else _LayerNorm(settings)
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise ValueError(f"{folder.name}/model.safetensors is missing{conversion_hint(folder)}")
    try:
        module.load_state_dict(load_file(weights))
    except RuntimeError as error:
        raise ValueError(f"{folder.name}/model.safetensors does not fit: {error}") from None
    return module


def conversion_hint(folder: Path) -> str:
    """How to convert pickled weights; empty if there are none in the folder."""
    if not any(folder.glob("pytorch_model*.bin")):
        return ""
    return (
        ", and pytorch_model.bin is not read: loading it could run code. If you trust it, convert "
        "it by SentenceTransformer(FOLDER).save(NEW_FOLDER)"
    )
