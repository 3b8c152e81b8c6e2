"""Attention on a CPU: blocks of texts of similar length, with a hand-written backward pass.

Shape suffixes: N texts of a block, H heads, L length of a block, E size of a head,
X = N·H matrices of a block, S = sum of X·L over the blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from embedft.encoder.dropout import DropoutMasks
from embedft.encoder.packing import PackedBlock

_FUSED_LENGTH = 128
"""From this block length on, PyTorch's fused CPU kernel is faster than separate products."""


def block_parts(values_SE: Tensor, blocks: Sequence[PackedBlock]) -> list[Tensor]:
    """(X, L, E) of each block."""
    heads = len(values_SE) // sum(block.texts * block.length for block in blocks)
    sizes = [block.texts * heads * block.length for block in blocks]
    return [
        part.view(block.texts * heads, block.length, -1)
        for part, block in zip(torch.split(values_SE, sizes), blocks, strict=True)
    ]


def added_scores(
    block: PackedBlock, window: int | None, bias_HLL: Tensor | None, device: torch.device
) -> list[Tensor]:
    """The terms to add to a block's scores: the bias, and -inf for positions out of reach.

    Returns:
        Tensors that broadcast to (N, H, L, L); none if there is nothing to add.
    """
    added = [] if bias_HLL is None else [bias_HLL[:, : block.length, : block.length]]
    padding_N11L = block.padding
    if window is not None and block.length > window:
        positions_L = torch.arange(block.length, device=device)
        distance_LL = (positions_L - positions_L.unsqueeze(1)).abs()
        outside_LL = torch.zeros(distance_LL.shape, device=device)
        added.append(outside_LL.masked_fill_(distance_LL >= window, -torch.inf))
        if padding_N11L is not None:
            # A padding position attends to itself: with no finite score the softmax would be NaN.
            padding_N11L = padding_N11L.where(distance_LL > 0, 0)
    return added if padding_N11L is None else [*added, padding_N11L]


def fused_mask(added: list[Tensor], dtype: torch.dtype) -> Tensor | None:
    """The sum of the added terms, in the four dimensions that PyTorch's fused kernels take."""
    if not added:
        return None
    mask: Tensor = sum(added[1:], added[0])
    return mask[(None,) * (4 - mask.ndim)].to(dtype)


def _bmm(first: Tensor, second: Tensor, block: PackedBlock, out: Tensor | None = None) -> Tensor:
    """``torch.bmm`` of X matrices; in bf16, split so that each part has a power of two of texts.

    A CPU's library compiles bf16 products for each new shape, which takes 1 to 2 ms: powers of two
    keep the number of shapes small.
    """
    if first.dtype != torch.bfloat16:
        return torch.bmm(first, second) if out is None else torch.bmm(first, second, out=out)
    if out is None:
        out = first.new_empty(len(first), first.shape[1], second.shape[2])
    heads = len(first) // block.texts
    start = 0
    for bit in reversed(range(block.texts.bit_length())):
        if block.texts >> bit & 1:
            part = slice(start, start + (heads << bit))
            torch.bmm(first[part], second[part], out=out[part])
            start = part.stop
    return out


def _uses_fused_kernel(block: PackedBlock, dropout: float) -> bool:
    """Whether a block goes through PyTorch's fused CPU kernel, which has no dropout."""
    return block.length >= _FUSED_LENGTH and not dropout


class BlockAttention(torch.autograd.Function):
    """Attention one block at a time, with a hand-written backward pass.

    Short texts have small matrices: autograd's bookkeeping and PyTorch's fused CPU kernel cost more
    than their arithmetic. The softmax is computed in float32 or better, which on a CPU is also
    three times as fast as in bfloat16. Long texts use the fused kernel. It does not keep the
    weights, so the backward pass recomputes them.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query_SE: Tensor,
        key_SE: Tensor,
        value_SE: Tensor,
        bias_HLL: Tensor | None,
        blocks: list[PackedBlock],
        scale: float,
        dropout: float,
        masks: DropoutMasks | None,
        window: int | None,
    ) -> Tensor:
        """Attention of each block; see :class:`BlockAttention`."""
        output_SE = torch.empty_like(query_SE)
        query_SE = query_SE * scale
        saved: list[Tensor] = []
        training = any(ctx.needs_input_grad)
        with torch.autocast("cpu", enabled=False):
            for block, query_XLE, key_XLE, value_XLE, output_XLE in zip(
                blocks,
                *(
                    block_parts(values, blocks)
                    for values in (query_SE, key_SE, value_SE, output_SE)
                ),
                strict=True,
            ):
                added = added_scores(block, window, bias_HLL, query_SE.device)
                if _uses_fused_kernel(block, dropout):
                    parts = query_XLE, key_XLE, value_XLE
                    saved.append(_fused_attention(*parts, block, added, output_XLE))
                    continue
                scores_XLL = _scores(query_XLE, key_XLE, block, added)
                weights_XLL = torch.softmax(scores_XLL, dim=-1).to(query_SE.dtype)
                kept_XLL = weights_XLL
                if dropout:
                    assert masks is not None
                    kept_XLL = weights_XLL * masks.draw(weights_XLL.shape, dropout, query_SE.dtype)
                if training:
                    saved += [weights_XLL, kept_XLL]
                _bmm(kept_XLL, value_XLE, block, output_XLE)
        ctx.save_for_backward(query_SE, key_SE, value_SE, bias_HLL, output_SE, *saved)
        ctx.blocks, ctx.scale, ctx.dropout, ctx.window = blocks, scale, dropout, window
        return output_SE

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of query, key, value and bias."""
        query_SE, key_SE, value_SE, bias_HLL, output_SE, *saved = ctx.saved_tensors
        dtype = query_SE.dtype
        exact = torch.promote_types(dtype, torch.float32)
        (grad_SE,) = grad_outputs
        # Row sums of weights times their gradients need only the output: Dao et al., 2022,
        # arXiv:2205.14135, appendix B.
        sums_S1 = (grad_SE.to(exact) * output_SE).sum(-1, keepdim=True).to(dtype)
        grads = tuple(torch.empty_like(query_SE) for _ in range(3))
        grad_bias_HLL = None if bias_HLL is None else torch.zeros_like(bias_HLL)
        saved_by_block = iter(saved)
        tables = (query_SE, key_SE, value_SE, grad_SE.contiguous(), sums_S1, *grads)
        for block, query, key, value, grad, sums_XL1, grad_query, grad_key, grad_value in zip(
            ctx.blocks, *(block_parts(table, ctx.blocks) for table in tables), strict=True
        ):
            if _uses_fused_kernel(block, ctx.dropout):
                added = added_scores(block, ctx.window, bias_HLL, query.device)
                scores_XLL = _scores(query, key, block, added)
                weights_XLL = scores_XLL.sub_(next(saved_by_block)).exp_().to(dtype)
                kept_XLL = weights_XLL
            else:
                weights_XLL, kept_XLL = next(saved_by_block), next(saved_by_block)
            _bmm(kept_XLL.transpose(1, 2), grad, block, grad_value)
            grad_scores_XLL = _bmm(grad, value.transpose(1, 2), block).mul_(kept_XLL)
            grad_scores_XLL.addcmul_(weights_XLL, sums_XL1, value=-1)
            if grad_bias_HLL is not None:
                length = block.length
                grad_scores_NHLL = grad_scores_XLL.view(block.texts, -1, length, length)
                grad_bias_HLL[:, :length, :length] += grad_scores_NHLL.sum(0)
            _bmm(grad_scores_XLL, key, block, grad_query)
            _bmm(grad_scores_XLL.transpose(1, 2), query, block, grad_key)
        grads[0].mul_(ctx.scale)
        return *grads, grad_bias_HLL, None, None, None, None, None


def _scores(query_XLE: Tensor, key_XLE: Tensor, block: PackedBlock, added: list[Tensor]) -> Tensor:
    """(X, L, L) the scores before the softmax, in float32 or better."""
    scores_XLL = _bmm(query_XLE, key_XLE.transpose(1, 2), block)
    scores_XLL = scores_XLL.to(torch.promote_types(scores_XLL.dtype, torch.float32))
    scores_NHLL = scores_XLL.view(block.texts, -1, block.length, block.length)
    for term in added:
        scores_NHLL += term
    return scores_XLL


def _fused_attention(
    query_XLE: Tensor,
    key_XLE: Tensor,
    value_XLE: Tensor,
    block: PackedBlock,
    added: list[Tensor],
    out_XLE: Tensor,
) -> Tensor:
    """Attention by PyTorch's fused CPU kernel, written to ``out_XLE``.

    Returns:
        (X, L, 1) the log-sum-exp of each row of scores, in float32 or better.
    """
    output_NHLE, log_sums_NHL = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        *(part.view(block.texts, -1, *part.shape[1:]) for part in (query_XLE, key_XLE, value_XLE)),
        attn_mask=fused_mask(added, torch.promote_types(query_XLE.dtype, torch.float32)),
        scale=1.0,
    )
    out_XLE.copy_(output_NHLE.reshape(out_XLE.shape))
    return log_sums_NHL.reshape(*out_XLE.shape[:2], 1)  # type: ignore[no-any-return]
