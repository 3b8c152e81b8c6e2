"""Dropout at a fraction of its usual cost on a CPU.

PyTorch's own draws one random number an element, one after the other, and is a third of a training
step. Here one 64-bit draw decides over four elements.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

_LEVELS = 1 << 16


class DropoutMasks:
    """Random masks of one forward pass, a function of torch's random state alone."""

    def __init__(self) -> None:
        self._bits = np.random.SFC64(0)

    def reseed(self) -> None:
        """Starts anew from torch's generator: what replays that, replays the masks."""
        self._bits = np.random.SFC64(int(torch.randint(2**62, ())))

    def draw(self, shape: torch.Size, p: float, dtype: torch.dtype) -> Tensor:
        """A mask of zeros, with probability p, and of 1 / (1 - p).

        Args:
            shape: Shape of the mask.
            p: In [0, 1), rounded to a multiple of 1/65536.
            dtype: Of what is multiplied by the mask.

        Returns:
            The mask in ``dtype``; 1 / (1 - p) is rounded to it.
        """
        count = shape.numel()
        draws = self._bits.random_raw(-(-count // 4))
        keep = torch.from_numpy(draws.view(np.int16)[:count]).view(shape)
        keep.ge_(round(p * _LEVELS) - _LEVELS // 2)  # int16, 1 where the element stays
        if dtype == torch.bfloat16:
            scale = torch.tensor(1 / (1 - p), dtype=dtype).view(torch.int16)
            return keep.mul_(scale).view(dtype)  # the bits of 1 / (1 - p), or of 0
        return keep.to(dtype).mul_(1 / (1 - p))


class FastDropout(nn.Module):
    """``nn.Dropout`` with masks of :class:`DropoutMasks` on a CPU.

    Args:
        p: Probability of an element to be zeroed.
        masks: Shared by the layers of one encoder.
    """

    def __init__(self, p: float, masks: DropoutMasks) -> None:
        super().__init__()
        self.p = p
        self.masks = masks

    def forward(self, values: Tensor) -> Tensor:
        """Zeroes elements and scales the others by 1 / (1 - p), in training."""
        if not self.training or self.p == 0:
            return values
        if values.device.type != "cpu":
            return nn.functional.dropout(values, self.p)
        return values * self.masks.draw(values.shape, self.p, values.dtype)


def replace_dropout(module: nn.Module, masks: DropoutMasks) -> None:
    """Puts :class:`FastDropout` in the place of each ``nn.Dropout`` below a module."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Dropout:
                setattr(parent, name, FastDropout(child.p, masks))
