"""Attention over packed texts: each text attends to itself alone.

Registered with transformers under the name ``packed``: models whose attention goes through
``AttentionInterface`` run it when ``layout`` and ``masks`` are passed to their forward.

Shape suffixes: T tokens, N texts of a block, H heads, L length of a block, E size of a head,
X = N·H, S = sum of X·L over the blocks.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface

from embedft.encoder.block_attention import BlockAttention, added_scores, block_parts, fused_mask
from embedft.encoder.dropout import DropoutMasks
from embedft.encoder.packing import HeadIndex, PackedBlock, PackedLayout

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
        output_SE: Tensor = BlockAttention.apply(  # type: ignore[no-untyped-call]
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
    ends, longest = layout.cu_seqlens, layout.longest
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
    blocks: list[PackedBlock],
    scale: float,
    dropout: float,
    window: int | None,
) -> Tensor:
    """A block at a time by PyTorch's fused kernels, for what :func:`_by_text` can't do."""
    outputs = []
    for block, *parts in zip(
        blocks,
        *(block_parts(values, blocks) for values in (query_SE, key_SE, value_SE)),
        strict=True,
    ):
        query, key, value = (part.view(block.texts, -1, *part.shape[1:]) for part in parts)
        added = added_scores(block, window, bias_HLL, query.device)
        output_NHLE = functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=fused_mask(added, query.dtype),
            dropout_p=dropout,
            scale=scale,
        )
        outputs.append(output_NHLE.reshape(-1, query.shape[-1]))
    return torch.cat(outputs)
