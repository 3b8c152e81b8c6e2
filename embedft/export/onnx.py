"""Writes ``onnx/model.onnx``, which sentence-transformers loads with ``backend="onnx"``."""

from __future__ import annotations

import importlib.util
import inspect
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

from embedft.errors import InputError, RunFailedError
from embedft.tools.files import replacing_file
from embedft.tools.log import only_errors
from embedft.tools.text import error_line

TOLERANCE = 1e-4  # largest difference in a token vector, torch against onnxruntime
MAX_BYTES = 2**31 - 2**20  # protobuf's limit for one file
_CHECKED_SHAPES = ((1, 1), (2, 7), (3, 40))  # (texts, tokens) that the file is checked with


class _TokenVectors(nn.Module):
    """A backbone whose only output is the last hidden state."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        output = self.backbone(input_ids=input_ids, attention_mask=attention_mask, **types)
        return output.last_hidden_state  # type: ignore[no-any-return]


def check_onnx_installed() -> None:
    """Checks that the packages of the ``onnx`` extra are installed.

    Raises:
        InputError: One is missing.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise InputError(f"--onnx needs {package}; type: pip install 'embedft[onnx]'")


def write_onnx(folder: Path) -> Path:
    """Writes ``onnx/model.onnx`` into a sentence-transformers folder.

    The inputs are ``input_ids``, ``attention_mask`` and, if the tokenizer returns them,
    ``token_type_ids``, each (texts, tokens) int64 of any size. The output ``last_hidden_state`` is
    (texts, tokens, H) float32. Pooling is left to sentence-transformers.

    Args:
        folder: The model.

    Returns:
        The file.

    Raises:
        InputError: The model is too large for one file.
        RunFailedError: torch can't export it, or onnxruntime's results differ from torch's.
    """
    backbone = AutoModel.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False, attn_implementation="eager"
    ).eval()
    size = sum(weight.numel() * weight.element_size() for weight in backbone.parameters())
    if size > MAX_BYTES:
        raise InputError(
            f"{folder}: {size / 2**30:.1f} GiB of weights are too large for one ONNX file"
        )
    model = _TokenVectors(backbone)
    names = AutoTokenizer.from_pretrained(folder, local_files_only=True).model_input_names
    path = folder / "onnx" / "model.onnx"
    with replacing_file(path) as temporary:
        try:
            _export(model, _example_inputs(backbone, names, 2, 7), temporary)
        except torch.onnx.OnnxExporterError as error:
            reason = error_line(error.__cause__ or error, first_line=True)
            raise RunFailedError(f"{folder}: torch can't export it as ONNX: {reason}") from None
        _compare_with_torch(model, names, temporary)
    return path


def _export(model: _TokenVectors, inputs: dict[str, Tensor], path: Path) -> None:
    """Writes the file, without torch's messages about its own code."""
    axes = {0: torch.export.Dim("texts"), 1: torch.export.Dim("tokens")}
    with warnings.catch_warnings(), only_errors("torch.onnx", "torch.export"):
        warnings.simplefilter("ignore")
        # The older, tracing exporter leaves the attention mask out of the graph.
        torch.onnx.export(
            model,
            tuple(inputs.values()),
            path,
            input_names=list(inputs),
            output_names=["last_hidden_state"],
            dynamic_shapes=tuple(axes for _ in inputs),
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def _example_inputs(backbone: Any, names: list[str], texts: int, tokens: int) -> dict[str, Tensor]:
    """Inputs of texts of decreasing length, by the tokenizer's names."""
    ids = torch.arange(texts * tokens).reshape(texts, tokens) % backbone.config.vocab_size
    lengths = torch.arange(tokens, 0, -1)[:texts].clamp(min=1).unsqueeze(1)
    inputs = {"input_ids": ids, "attention_mask": (torch.arange(tokens) < lengths).long()}
    takes_types = "token_type_ids" in inspect.signature(backbone.forward).parameters
    if (
        "token_type_ids" in names
        and takes_types
        and getattr(backbone.config, "type_vocab_size", 0) > 1
    ):
        inputs["token_type_ids"] = torch.zeros_like(ids)
    return inputs


def _compare_with_torch(model: _TokenVectors, names: list[str], path: Path) -> None:
    """Compares the file's output with the model's on batches of several shapes.

    Raises:
        RunFailedError: They differ by more than ``TOLERANCE``.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for texts, tokens in _CHECKED_SHAPES:
        inputs = _example_inputs(model.backbone, names, texts, tokens)
        (output,) = session.run(None, {name: value.numpy() for name, value in inputs.items()})
        with torch.no_grad():
            expected = model(**inputs)
        mask = inputs["attention_mask"].bool()
        difference = (torch.from_numpy(output)[mask] - expected[mask]).abs().max().item()
        if not difference <= TOLERANCE:  # NaN is refused
            raise RunFailedError(
                f"the ONNX file differs from torch by {difference:.1e} on {texts} texts of "
                f"{tokens} tokens, more than {TOLERANCE:.0e}. Nothing was written. Please report "
                "it with the base model's name"
            )
