"""Pooling: from token vectors to one vector per text.

Shape suffixes: B texts, L tokens of the longest text, T tokens of a packed batch, H hidden size.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from embedft.encoder.packing import PackedLayout

Pooling = Literal["mean", "cls", "max", "lasttoken"]

POOLINGS: tuple[Pooling, ...] = get_args(Pooling)


def pool(hidden_BLH: Tensor, mask_BL: Tensor, pooling: Pooling) -> Tensor:
    """Pools token vectors as sentence-transformers' ``Pooling`` does, in float32 or better.

    Args:
        hidden_BLH: Token vectors.
        mask_BL: True at tokens, False at padding, which follows the tokens; at least one token per
            text.
        pooling: ``mean`` of all tokens (Reimers and Gurevych, 2019, arXiv:1908.10084), ``cls``,
            the first token, ``lasttoken``, or ``max``, each number's largest value.

    Returns:
        (B, H) one vector per text.
    """
    hidden_BLH = hidden_BLH.to(torch.promote_types(hidden_BLH.dtype, torch.float32))
    if pooling == "cls":
        return hidden_BLH[:, 0]
    if pooling == "lasttoken":
        last_B = mask_BL.sum(dim=1) - 1
        return hidden_BLH[torch.arange(len(last_B), device=last_B.device), last_B]
    if pooling == "max":
        return hidden_BLH.masked_fill(~mask_BL.unsqueeze(-1), -torch.inf).amax(dim=1)
    mask_BL1 = mask_BL.unsqueeze(-1).to(hidden_BLH.dtype)
    return (hidden_BLH * mask_BL1).sum(dim=1) / mask_BL1.sum(dim=1)


def pool_packed(hidden_TH: Tensor, layout: PackedLayout, pooling: Pooling) -> Tensor:
    """Pools token vectors of packed texts; otherwise as :func:`pool`.

    Args:
        hidden_TH: Token vectors in the order of the layout.
        layout: Where texts begin and end.
        pooling: As for :func:`pool`.

    Returns:
        (B, H) one vector per text, in the order of the layout.
    """
    hidden_TH = hidden_TH.to(torch.promote_types(hidden_TH.dtype, torch.float32))
    if pooling == "cls":
        return hidden_TH[layout.cu_seqlens[:-1]]
    if pooling == "lasttoken":
        return hidden_TH[layout.cu_seqlens[1:] - 1]
    if pooling == "max":
        return torch.segment_reduce(
            hidden_TH, "max", lengths=layout.device_lengths, axis=0, unsafe=True
        )
    if hidden_TH.device.type != "cpu":  # index_add is not deterministic there
        return torch.segment_reduce(
            hidden_TH, "mean", lengths=layout.device_lengths, axis=0, unsafe=True
        )
    sums_BH = hidden_TH.new_zeros(len(layout.lengths), hidden_TH.shape[1])
    sums_BH = sums_BH.index_add(0, layout.text_of_token, hidden_TH)
    return sums_BH / layout.device_lengths.unsqueeze(1)
