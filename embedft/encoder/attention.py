"""Attention over packed texts: each text attends only to itself.

Registered with transformers as ``packed``. Models that use ``AttentionInterface`` run it if their
forward gets ``layout`` and ``masks``.

Shape suffixes: T tokens, N texts of a block, H heads, L length of a block, E size of a head,
S = sum of N·H·L over the blocks.
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
        dropout: Probability that an attention weight is set to zero.
        masks: Draws dropout's masks on a CPU; required there if ``dropout`` is above 0.
        window: Tokens attend only to positions nearer than this; None attends to all.
        bias_HLL: Added to the scores of positions (i, j) of each text; its L is at least the length
            of the longest block.

    Returns:
        (T, H, E), in the dtype of the inputs.
    """
    if window is not None and window >= layout.longest:
        window = None
    if bias_HLL is None and window is None and _has_varlen_kernel(query_THE):
        return _varlen_attention(query_THE, key_THE, value_THE, layout, scale, dropout)
    index = layout.head_index(query_THE.shape[1])
    query_SE, key_SE, value_SE = (
        _to_blocks(values, index) for values in (query_THE, key_THE, value_THE)
    )
    if query_SE.device.type == "cpu":
        output_SE: Tensor = BlockAttention.apply(  # type: ignore[no-untyped-call]
            query_SE, key_SE, value_SE, bias_HLL, layout.blocks, scale, dropout, masks, window
        )
    else:
        output_SE = _blockwise_attention(
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
    """:func:`packed_attention` with the signature of transformers: (1, H, T, E) to (1, T, H, E)."""
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
    """Copies rows between the packed table and the blocks: a gather both ways, never a scatter.

    Each row of the packed table occurs once in the blocks. Padding positions hold a copy of their
    text's last row and have no gradient.
    """

    @staticmethod
    def forward(
        ctx: Any, table: Tensor, index: Tensor, inverse: Tensor, without_gradient: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(inverse, without_gradient)
        return table.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None]:
        inverse, without_gradient = ctx.saved_tensors
        grad = grad_outputs[0].index_select(0, inverse)
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


def _has_varlen_kernel(query_THE: Tensor) -> bool:
    """Whether :func:`_varlen_attention` supports the device, dtype and head size."""
    if query_THE.device.type != "cuda" or torch.version.cuda is None:
        return False
    size = query_THE.shape[-1]
    supported = query_THE.dtype in (torch.float16, torch.bfloat16, torch.float32)
    return supported and size % 8 == 0 and size <= 256


def _varlen_attention(
    query_THE: Tensor,
    key_THE: Tensor,
    value_THE: Tensor,
    layout: PackedLayout,
    scale: float,
    dropout: float,
) -> Tensor:
    """All texts in one call of a fused kernel (Dao et al., 2022, arXiv:2205.14135).

    These are the kernels of ``scaled_dot_product_attention`` for nested tensors, which would add
    1.5 ms per layer. ``torch.nn.attention.varlen`` has no dropout.
    """
    tables = query_THE, key_THE, value_THE
    starts, longest = layout.cu_seqlens, layout.longest
    has_flash = torch.cuda.get_device_capability(query_THE.device) >= (8, 0)
    if query_THE.dtype != torch.float32 and has_flash:
        output_THE, *_ = torch.ops.aten._flash_attention_forward(
            *tables, starts, starts, longest, longest, dropout, False, False, scale=scale
        )
    else:
        output_1THE, *_ = torch.ops.aten._efficient_attention_forward(
            *(table.unsqueeze(0) for table in tables),
            *(None, starts, starts, longest, longest, dropout, 0, True),
            scale=scale,
        )
        output_THE = output_1THE.squeeze(0)
    return output_THE  # type: ignore[no-any-return]


def _blockwise_attention(
    query_SE: Tensor,
    key_SE: Tensor,
    value_SE: Tensor,
    bias_HLL: Tensor | None,
    blocks: list[PackedBlock],
    scale: float,
    dropout: float,
    window: int | None,
) -> Tensor:
    """One block at a time by PyTorch's fused kernels; the fallback of :func:`_varlen_attention`."""
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
