"""The table of token embeddings, whose gradient reuses its memory from step to step.

A step uses few rows of the table, yet its gradient is as large as the table. On a CPU, allocating
that much memory in each step costs more than the look-up and its gradient together.

Shape suffixes: V vocabulary, T tokens, H hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class TokenEmbedding(nn.Embedding):
    """``nn.Embedding`` that can reuse the memory of its last gradient for the next one.

    Args:
        table: The embedding that this replaces; both share the parameter.

    Attributes:
        average: Called after each backward pass with the gradient, (V, H), and the looked-up ids,
            (T,). Averages the gradient over the ranks in place. None leaves it as it is.
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
        self._shared: _SharedGradient | None = None

    def forward(self, input: Tensor) -> Tensor:
        """Looks up ids; any shape."""
        if input.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(input)
        rows: Tensor = _Lookup.apply(input, self.weight, self, self._shared)  # type: ignore[no-untyped-call]
        return rows

    @contextmanager
    def shared_gradient(self) -> Iterator[None]:
        """Look-ups within this context share one gradient; a single backward pass must follow."""
        self._shared = _SharedGradient()
        try:
            yield
        finally:
            self._shared = None

    def reclaim_gradient(self) -> None:
        """Drops the gradient and keeps its memory for the next backward pass."""
        self._spare, self.weight.grad = self.weight.grad, None

    def take_zeros(self) -> Tensor:
        """(V, H) zeros, in reclaimed memory if there is any."""
        zeros, self._spare = self._spare, None
        return torch.zeros_like(self.weight) if zeros is None else zeros.zero_()


class _SharedGradient:
    """The gradient that several look-ups add to.

    Attributes:
        n_lookups: How many look-ups take part.
        added_ids: The ids of those that the backward pass has added so far.
        grad_VH: Their sum; None before the first.
    """

    def __init__(self) -> None:
        self.n_lookups = 0
        self.added_ids: list[Tensor] = []
        self.grad_VH: Tensor | None = None


class _Lookup(torch.autograd.Function):
    """A look-up whose gradient gets its memory from the module."""

    @staticmethod
    def forward(
        ctx: Any,
        ids: Tensor,
        weight_VH: Tensor,
        module: TokenEmbedding,
        shared: _SharedGradient | None,
    ) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.module, ctx.shared = module, shared or _SharedGradient()
        ctx.shared.n_lookups += 1
        return nn.functional.embedding(ids, weight_VH)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[None, Tensor | None, None, None]:
        (ids,) = ctx.saved_tensors
        shared = ctx.shared
        grad_VH, is_first = shared.grad_VH, shared.grad_VH is None
        if grad_VH is None:
            grad_VH = shared.grad_VH = ctx.module.take_zeros()
        grad_VH.index_add_(0, ids.flatten(), grad_outputs[0].flatten(0, -2))
        if ctx.module.padding_idx is not None:
            grad_VH[ctx.module.padding_idx] = 0
        shared.added_ids.append(ids.flatten())
        if len(shared.added_ids) == shared.n_lookups:
            if ctx.module.average is not None:
                ctx.module.average(grad_VH, torch.cat(shared.added_ids))
            shared.grad_VH, shared.added_ids = None, []
        # Autograd keeps the tensor that the first look-up returned; the others add to it in place.
        return None, grad_VH if is_first else None, None, None
