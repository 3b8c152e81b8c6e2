"""Attention over packed texts: each text attends to itself alone.

Registered with transformers under the name ``packed``: models whose attention goes through
``AttentionInterface`` run it when ``layout`` and ``masks`` are passed to their forward.

Shape suffixes: T tokens, N texts of a block, H heads, L length of a block, E size of a head,
X = N·H, S = sum of X·L over the blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface

from embedft.encoder.dropout import DropoutMasks
from embedft.encoder.packing import Block, HeadIndex, PackedLayout

NAME = "packed"


def packed_attention(
    query_THE: Tensor,
    key_THE: Tensor,
    value_THE: Tensor,
    layout: PackedLayout,
    *,
    scale: float,
    dropout: float = 0.0,
    masks: DropoutMasks | None = None,
    window: int | None = None,
    bias_HLL: Tensor | None = None,
) -> Tensor:
    """softmax(scale · Q Kᵀ + bias) V within each text (Vaswani et al., 2017, arXiv:1706.03762).

    Args:
        query_THE: Queries of the packed tokens.
        key_THE: Keys.
        value_THE: Values.
        layout: Where texts begin and end.
        scale: Factor of the scores.
        dropout: Probability of an attention weight to be zeroed.
        masks: Gives the dropout's masks on a CPU; needed there if ``dropout`` is above 0.
        window: Tokens attend to places nearer than this; None is everywhere.
        bias_HLL: Added to the scores of the places (i, j) of a text; at least as large as the
            longest block.

    Returns:
        (T, H, E), in the dtype of the inputs.
    """
    if window is not None and window >= layout.longest:
        window = None
    if bias_HLL is None and window is None and _has_kernels(query_THE):
        return _by_text(query_THE, key_THE, value_THE, layout, scale, dropout)
    index = layout.head_index(query_THE.shape[1])
    query_SE, key_SE, value_SE = (
        _to_blocks(values, index) for values in (query_THE, key_THE, value_THE)
    )
    if query_SE.device.type == "cpu":
        output_SE: Tensor = _BlockAttention.apply(  # type: ignore[no-untyped-call]
            query_SE, key_SE, value_SE, bias_HLL, layout.blocks, scale, dropout, masks, window
        )
    else:
        output_SE = _fused(
            query_SE, key_SE, value_SE, bias_HLL, layout.blocks, scale, dropout, window
        )
    return _from_blocks(output_SE, index).view(query_THE.shape)


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    *,
    layout: PackedLayout,
    masks: DropoutMasks,
    **_: Any,
) -> tuple[Tensor, None]:
    """The form that transformers calls: (1, H, T, E) in, (1, T, H, E) out."""
    output_THE = packed_attention(
        query.squeeze(0).transpose(0, 1),
        key.squeeze(0).transpose(0, 1),
        value.squeeze(0).transpose(0, 1),
        layout,
        scale=scaling,
        dropout=dropout,
        masks=masks,
        window=sliding_window,
    )
    return output_THE.unsqueeze(0), None


AttentionInterface.register(NAME, _attend)


class _Gather(torch.autograd.Function):
    """Rows between the packed table and the blocks: a gather both ways, never a scatter.

    Each row of the packed table has one place in the blocks. The places behind a text's end hold a
    copy of its last row, and have no gradient.
    """

    @staticmethod
    def forward(
        ctx: Any, table: Tensor, there: Tensor, back: Tensor, without_gradient: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(back, without_gradient)
        return table.index_select(0, there)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None]:
        back, without_gradient = ctx.saved_tensors
        grad = grad_outputs[0].index_select(0, back)
        if without_gradient is not None:
            grad.index_fill_(0, without_gradient, 0)
        return grad, None, None, None


def _to_blocks(values_THE: Tensor, index: HeadIndex) -> Tensor:
    rows = values_THE.flatten(0, 1)
    values_SE: Tensor = _Gather.apply(rows, index.blocks, index.rows, None)  # type: ignore[no-untyped-call]
    return values_SE


def _from_blocks(values_SE: Tensor, index: HeadIndex) -> Tensor:
    rows: Tensor = _Gather.apply(values_SE, index.rows, index.blocks, index.padding)  # type: ignore[no-untyped-call]
    return rows


def _parts(values_SE: Tensor, blocks: Sequence[Block]) -> list[Tensor]:
    """(X, L, E) of each block."""
    heads = len(values_SE) // sum(block.texts * block.length for block in blocks)
    sizes = [block.texts * heads * block.length for block in blocks]
    return [
        part.view(block.texts * heads, block.length, -1)
        for part, block in zip(torch.split(values_SE, sizes), blocks, strict=True)
    ]


def _added(
    block: Block, window: int | None, bias_HLL: Tensor | None, device: torch.device
) -> list[Tensor]:
    """What is added to a block's scores, each broadcastable to (N, H, L, L): bias, and -inf."""
    added = [] if bias_HLL is None else [bias_HLL[:, : block.length, : block.length]]
    padding_N11L = block.padding
    if window is not None and block.length > window:
        places_L = torch.arange(block.length, device=device)
        distance_LL = (places_L - places_L.unsqueeze(1)).abs()
        outside_LL = torch.zeros(distance_LL.shape, device=device)
        added.append(outside_LL.masked_fill_(distance_LL >= window, -torch.inf))
        if padding_N11L is not None:
            # A place behind a text's end may see nothing but itself: it must see something.
            padding_N11L = padding_N11L.where(distance_LL > 0, 0)
    return added if padding_N11L is None else [*added, padding_N11L]


def _mask(added: list[Tensor], dtype: torch.dtype) -> Tensor | None:
    """The sum of what is added, with the four dimensions that PyTorch's fused kernels take."""
    if not added:
        return None
    mask: Tensor = sum(added[1:], added[0])
    return mask[(None,) * (4 - mask.ndim)].to(dtype)


def _bmm(first: Tensor, second: Tensor, block: Block, out: Tensor | None = None) -> Tensor:
    """``torch.bmm`` of X matrices, in bf16 by numbers of texts that are powers of two.

    A CPU's library compiles bf16 products for each new shape, 1 to 2 ms each: so there are few.
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


_LONG = 128
"""From this length on PyTorch's fused CPU kernel is faster than its steps one by one."""


def _at_once(block: Block, dropout: float) -> bool:
    """Whether a block takes that kernel, which knows no dropout."""
    return block.length >= _LONG and not dropout


class _BlockAttention(torch.autograd.Function):
    """Attention a block at a time, with the backward pass by hand.

    The matrices of short texts are small: autograd's bookkeeping and PyTorch's fused CPU kernel
    cost more than their arithmetic. The softmax is computed in float32 or better, which a CPU also
    does three times as fast as in bfloat16. Long texts take the fused kernel, which does not keep
    the weights: the backward pass computes them anew.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query_SE: Tensor,
        key_SE: Tensor,
        value_SE: Tensor,
        bias_HLL: Tensor | None,
        blocks: list[Block],
        scale: float,
        dropout: float,
        masks: DropoutMasks | None,
        window: int | None,
    ) -> Tensor:
        output_SE = torch.empty_like(query_SE)
        query_SE = query_SE * scale
        saved: list[Tensor] = []
        training = any(ctx.needs_input_grad)
        with torch.autocast("cpu", enabled=False):
            for block, query_XLE, key_XLE, value_XLE, output_XLE in zip(
                blocks,
                *(_parts(values, blocks) for values in (query_SE, key_SE, value_SE, output_SE)),
                strict=True,
            ):
                added = _added(block, window, bias_HLL, query_SE.device)
                if _at_once(block, dropout):
                    parts = query_XLE, key_XLE, value_XLE
                    saved.append(_attend_at_once(*parts, block, added, output_XLE))
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
        query_SE, key_SE, value_SE, bias_HLL, output_SE, *saved = ctx.saved_tensors
        dtype = query_SE.dtype
        exact = torch.promote_types(dtype, torch.float32)
        (grad_SE,) = grad_outputs
        # Row sums of (weights · their gradients), from the output alone: Dao et al., 2022,
        # arXiv:2205.14135, appendix B.
        sums_S1 = (grad_SE.to(exact) * output_SE).sum(-1, keepdim=True).to(dtype)
        grads = tuple(torch.empty_like(query_SE) for _ in range(3))
        grad_bias_HLL = None if bias_HLL is None else torch.zeros_like(bias_HLL)
        rest = iter(saved)
        tables = (query_SE, key_SE, value_SE, grad_SE.contiguous(), sums_S1, *grads)
        for block, query, key, value, grad, sums_XL1, grad_query, grad_key, grad_value in zip(
            ctx.blocks, *(_parts(table, ctx.blocks) for table in tables), strict=True
        ):
            if _at_once(block, ctx.dropout):
                added = _added(block, ctx.window, bias_HLL, query.device)
                scores_XLL = _scores(query, key, block, added)
                weights_XLL = scores_XLL.sub_(next(rest)).exp_().to(dtype)
                kept_XLL = weights_XLL
            else:
                weights_XLL, kept_XLL = next(rest), next(rest)
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


def _scores(query_XLE: Tensor, key_XLE: Tensor, block: Block, added: list[Tensor]) -> Tensor:
    """(X, L, L) what the softmax is taken of, in float32 or better."""
    scores_XLL = _bmm(query_XLE, key_XLE.transpose(1, 2), block)
    scores_XLL = scores_XLL.to(torch.promote_types(scores_XLL.dtype, torch.float32))
    scores_NHLL = scores_XLL.view(block.texts, -1, block.length, block.length)
    for some in added:
        scores_NHLL += some
    return scores_XLL


def _attend_at_once(
    query_XLE: Tensor,
    key_XLE: Tensor,
    value_XLE: Tensor,
    block: Block,
    added: list[Tensor],
    out_XLE: Tensor,
) -> Tensor:
    """Attention by PyTorch's fused CPU kernel, into ``out_XLE``.

    Returns:
        (X, L, 1) logarithm of the sum of each row's exponentials, in float32 or better.
    """
    output_NHLE, log_sums_NHL = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        *(part.view(block.texts, -1, *part.shape[1:]) for part in (query_XLE, key_XLE, value_XLE)),
        attn_mask=_mask(added, torch.promote_types(query_XLE.dtype, torch.float32)),
        scale=1.0,
    )
    out_XLE.copy_(output_NHLE.reshape(out_XLE.shape))
    return log_sums_NHL.reshape(*out_XLE.shape[:2], 1)  # type: ignore[no-any-return]


def _has_kernels(query_THE: Tensor) -> bool:
    """Whether :func:`_by_text` computes on this device, in this dtype and head size."""
    if query_THE.device.type != "cuda" or torch.version.cuda is None:
        return False
    size = query_THE.shape[-1]
    known = query_THE.dtype in (torch.float16, torch.bfloat16, torch.float32)
    return known and size % 8 == 0 and size <= 256


def _by_text(
    query_THE: Tensor,
    key_THE: Tensor,
    value_THE: Tensor,
    layout: PackedLayout,
    scale: float,
    dropout: float,
) -> Tensor:
    """All texts in one call of a fused kernel (Dao et al., 2022, arXiv:2205.14135).

    What ``scaled_dot_product_attention`` calls for nested tensors, without them: they cost 1.5 ms
    a layer. ``torch.nn.attention.varlen`` knows no dropout.
    """
    tables = query_THE, key_THE, value_THE
    ends, longest = layout.ends_there, layout.longest
    has_flash = torch.cuda.get_device_capability(query_THE.device) >= (8, 0)
    if query_THE.dtype != torch.float32 and has_flash:
        output_THE, *_ = torch.ops.aten._flash_attention_forward(
            *tables, ends, ends, longest, longest, dropout, False, False, scale=scale
        )
    else:
        output_1THE, *_ = torch.ops.aten._efficient_attention_forward(
            *(table.unsqueeze(0) for table in tables),
            *(None, ends, ends, longest, longest, dropout, 0, True),
            scale=scale,
        )
        output_THE = output_1THE.squeeze(0)
    return output_THE  # type: ignore[no-any-return]


def _fused(
    query_SE: Tensor,
    key_SE: Tensor,
    value_SE: Tensor,
    bias_HLL: Tensor | None,
    blocks: list[Block],
    scale: float,
    dropout: float,
    window: int | None,
) -> Tensor:
    """A block at a time by PyTorch's fused kernels, for what :func:`_by_text` can't do."""
    outputs = []
    for block, *parts in zip(
        blocks, *(_parts(values, blocks) for values in (query_SE, key_SE, value_SE)), strict=True
    ):
        query, key, value = (part.view(block.texts, -1, *part.shape[1:]) for part in parts)
        added = _added(block, window, bias_HLL, query.device)
        output_NHLE = functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=_mask(added, query.dtype),
            dropout_p=dropout,
            scale=scale,
        )
        outputs.append(output_NHLE.reshape(-1, query.shape[-1]))
    return torch.cat(outputs)
