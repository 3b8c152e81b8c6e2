"""The table of word vectors, whose gradient keeps its memory from step to step.

A step touches a few of its rows, yet its gradient is as large as the table. On a CPU, fetching that
much fresh memory from the system each step costs more than the look-up and its gradient together.

Shape suffixes: V words, T tokens, H hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class TokenEmbedding(nn.Embedding):
    """``nn.Embedding`` that can be given its last gradient's memory for the next one.

    Args:
        table: What it replaces; the parameter is shared.

    Attributes:
        average: Called with each backward pass's gradient, (V, H), and the ids that it is of, (T,):
            makes it in place the mean over ranks. None leaves it as it is.
    """

    def __init__(self, table: nn.Embedding) -> None:
        super().__init__(
            table.num_embeddings,
            table.embedding_dim,
            padding_idx=table.padding_idx,
            device="meta",
        )
        self.weight = table.weight
        self.average: Callable[[Tensor, Tensor], None] | None = None
        self._spare: Tensor | None = None
        self._together: _SharedGradient | None = None

    def forward(self, input: Tensor) -> Tensor:
        """The rows of some ids."""
        if input.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(input)
        rows: Tensor = _Rows.apply(input, self.weight, self, self._together)  # type: ignore[no-untyped-call]
        return rows

    @contextmanager
    def shared_gradient(self) -> Iterator[None]:
        """Look-ups whose gradients one backward pass computes: they share one table's memory."""
        self._together = _SharedGradient()
        try:
            yield
        finally:
            self._together = None

    def reclaim_gradient(self) -> None:
        """Drops the gradient, whose memory the next backward pass uses again."""
        self._spare, self.weight.grad = self.weight.grad, None

    def take_zeros(self) -> Tensor:
        """(V, H) zeros, that nobody else holds."""
        zeros, self._spare = self._spare, None
        return torch.zeros_like(self.weight) if zeros is None else zeros.zero_()


class _SharedGradient:
    """The gradient that some look-ups add up, of which ids, and how many are still to come."""

    def __init__(self) -> None:
        self.looked_up = 0
        self.added: list[Tensor] = []
        self.grad_VH: Tensor | None = None


class _Rows(torch.autograd.Function):
    """A look-up, with the memory of its gradient from the module."""

    @staticmethod
    def forward(
        ctx: Any,
        ids: Tensor,
        weight_VH: Tensor,
        module: TokenEmbedding,
        together: _SharedGradient | None,
    ) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.module, ctx.together = module, together or _SharedGradient()
        ctx.together.looked_up += 1
        return nn.functional.embedding(ids, weight_VH)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[None, Tensor | None, None, None]:
        (ids,) = ctx.saved_tensors
        together = ctx.together
        grad_VH, first = together.grad_VH, together.grad_VH is None
        if grad_VH is None:
            grad_VH = together.grad_VH = ctx.module.take_zeros()
        grad_VH.index_add_(0, ids.flatten(), grad_outputs[0].flatten(0, -2))
        if ctx.module.padding_idx is not None:
            grad_VH[ctx.module.padding_idx] = 0
        together.added.append(ids.flatten())
        if len(together.added) == together.looked_up:
            if ctx.module.average is not None:
                ctx.module.average(grad_VH, torch.cat(together.added))
            together.grad_VH, together.added = None, []
        # Autograd holds what the first one returned, and sees what the others add to it.
        return None, grad_VH if first else None, None, None
