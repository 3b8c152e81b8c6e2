"""From token vectors to one vector a text.

Shape suffixes: B texts, L tokens of the longest, H hidden size.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Pooling = Literal["mean", "cls"]


def pool(hidden_BLH: Tensor, mask_BL: Tensor, pooling: Pooling) -> Tensor:
    """Pools token vectors as sentence-transformers' ``Pooling`` does, in float32 or better.

    Args:
        hidden_BLH: Token vectors.
        mask_BL: True at tokens, False at padding; at least one token a text.
        pooling: ``mean`` of all tokens (Reimers and Gurevych, 2019, arXiv:1908.10084), or ``cls``,
            the first token.

    Returns:
        (B, H) one vector a text.
    """
    hidden_BLH = hidden_BLH.to(torch.promote_types(hidden_BLH.dtype, torch.float32))
    if pooling == "cls":
        return hidden_BLH[:, 0]
    mask_BL1 = mask_BL.unsqueeze(-1).to(hidden_BLH.dtype)
    return (hidden_BLH * mask_BL1).sum(dim=1) / mask_BL1.sum(dim=1)
