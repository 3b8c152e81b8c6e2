"""The gradient of the token embeddings, averaged over ranks by the rows that they touch."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import programs
import pytest
import torch
from torch import nn

from embedft.training.sparse_gradients import exclude_from_ddp


@pytest.mark.slow
def test_averaged_rows() -> None:
    """Three ranks, one of them without a row; rows are exchanged, then the full gradient."""
    programs.torchrun(3, Path(__file__).with_name("row_averages.py"))


@pytest.mark.parametrize(
    ("device", "ranks", "trained"), [("cpu", 1, True), ("cuda", 2, True), ("cpu", 2, False)]
)
def test_ddp_keeps_the_token_embeddings(device: str, ranks: int, trained: bool) -> None:
    """With one rank, on GPUs, or if they are frozen."""
    embedding: Any = nn.Embedding(4, 2)
    embedding.weight.requires_grad_(trained)
    module: Any = nn.Module()
    strategy = SimpleNamespace(root_device=torch.device(device))
    module.trainer = SimpleNamespace(strategy=strategy, world_size=ranks)
    encoder: Any = SimpleNamespace(token_embedding=embedding)
    exclude_from_ddp(module, encoder)
    assert not hasattr(embedding, "average")
    assert not hasattr(module, "_ddp_params_and_buffers_to_ignore")
