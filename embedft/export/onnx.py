"""ONNX beside a model's weights, where sentence-transformers' ``backend="onnx"`` looks for it."""

from __future__ import annotations

import importlib.util
import inspect
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

from embedft.errors import InputError, RunFailedError
from embedft.tools.files import replacing_file
from embedft.tools.text import error_line

TOLERANCE = 1e-4  # of a token vector's numbers, torch's against onnxruntime's
LARGEST = 2**31 - 2**20  # bytes: protobuf's limit for one file
_SHAPES = ((1, 1), (2, 7), (3, 40))  # texts, tokens: what the file is checked with


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
    """Looks for the packages of the ``onnx`` extra.

    Raises:
        InputError: One is missing.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise InputError(f"--onnx needs {package}; type: pip install 'embedft[onnx]'")


def write_onnx(folder: Path) -> Path:
    """Writes ``onnx/model.onnx`` into a sentence-transformers folder.

    Inputs are ``input_ids``, ``attention_mask`` and, where the tokenizer makes them,
    ``token_type_ids``, each (texts, tokens) int64 of any size; the output ``last_hidden_state`` is
    (texts, tokens, H) float32. Pooling stays with sentence-transformers.

    Args:
        folder: The model.

    Returns:
        The file.

    Raises:
        InputError: The model is too large for one file.
        RunFailedError: torch can't write it, or onnxruntime computes something else from it.
    """
    backbone = AutoModel.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False, attn_implementation="eager"
    ).eval()
    size = sum(weight.numel() * weight.element_size() for weight in backbone.parameters())
    if size > LARGEST:
        raise InputError(f"{folder}: {size / 2**30:.1f} GiB are too large for one ONNX file")
    model = _TokenVectors(backbone)
    names = AutoTokenizer.from_pretrained(folder, local_files_only=True).model_input_names
    inputs = _example(backbone, names, 2, 7)
    axes = {0: torch.export.Dim("texts"), 1: torch.export.Dim("tokens")}
    path = folder / "onnx" / "model.onnx"
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export")]
    levels = [logger.level for logger in loggers]
    with replacing_file(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about its own code
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            # The older, tracing exporter leaves the attention mask out of the graph.
            torch.onnx.export(
                model,
                tuple(inputs.values()),
                temporary,
                input_names=list(inputs),
                output_names=["last_hidden_state"],
                dynamic_shapes=tuple(axes for _ in inputs),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            reason = error_line(error.__cause__ or error, first_line=True)
            raise RunFailedError(f"{folder}: torch can't write it as ONNX: {reason}") from None
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
        _check(model, names, temporary)
    return path


def _example(backbone: Any, names: list[str], texts: int, tokens: int) -> dict[str, Tensor]:
    """Inputs of texts that get shorter from one to the next, as the tokenizer names them."""
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


def _check(model: _TokenVectors, names: list[str], path: Path) -> None:
    """Compares the file with the model on texts of several numbers and lengths."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for texts, tokens in _SHAPES:
        inputs = _example(model.backbone, names, texts, tokens)
        (found,) = session.run(None, {name: value.numpy() for name, value in inputs.items()})
        with torch.no_grad():
            expected = model(**inputs)
        mask = inputs["attention_mask"].bool()
        off = (torch.from_numpy(found)[mask] - expected[mask]).abs().max().item()
        if not off <= TOLERANCE:
            raise RunFailedError(
                f"the ONNX file is off by {off:.1e} on {texts} texts of {tokens} tokens, more than "
                f"{TOLERANCE:.0e}; nothing was written. Please report it with the base model's name"
            )
