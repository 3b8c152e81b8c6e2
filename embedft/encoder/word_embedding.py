"""The table of word vectors, whose gradient keeps its memory from step to step.

A step touches a few of its rows, yet its gradient is as large as the table. On a CPU, fetching that
much fresh memory from the system each step costs more than the look-up and its gradient together.

Shape suffixes: V words, T tokens, H hidden size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class WordEmbedding(nn.Embedding):
    """``nn.Embedding`` that can be given its last gradient's memory for the next one.

    Args:
        table: What it replaces; the parameter is shared.
    """

    def __init__(self, table: nn.Embedding) -> None:
        super().__init__(
            table.num_embeddings,
            table.embedding_dim,
            padding_idx=table.padding_idx,
            device="meta",
        )
        self.weight = table.weight
        self._spare: Tensor | None = None

    def forward(self, input: Tensor) -> Tensor:
        """The rows of some ids."""
        if input.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(input)
        rows: Tensor = _Rows.apply(input, self.weight, self)  # type: ignore[no-untyped-call]
        return rows

    def reclaim_gradient(self) -> None:
        """Drops the gradient, whose memory the next backward pass uses again."""
        self._spare, self.weight.grad = self.weight.grad, None

    def take_zeros(self) -> Tensor:
        """(V, H) zeros, that nobody else holds."""
        zeros, self._spare = self._spare, None
        return torch.zeros_like(self.weight) if zeros is None else zeros.zero_()


class _Rows(torch.autograd.Function):
    """A look-up, with the memory of its gradient from the module."""

    @staticmethod
    def forward(ctx: Any, ids: Tensor, weight_VH: Tensor, module: WordEmbedding) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.module = module
        return nn.functional.embedding(ids, weight_VH)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[None, Tensor, None]:
        (ids,) = ctx.saved_tensors
        grad_VH = ctx.module.take_zeros()
        grad_VH.index_add_(0, ids.flatten(), grad_outputs[0].flatten(0, -2))
        if ctx.module.padding_idx is not None:
            grad_VH[ctx.module.padding_idx] = 0
        return None, grad_VH, None
