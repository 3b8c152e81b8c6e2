"""Dropout at a fraction of its usual cost on a CPU.

PyTorch's own draws one random number an element, one after the other on one core, and is a third of
a training step. Here a hash, computed by tensor operations on all cores, decides over two elements
with each of its 32-bit numbers.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

_LEVELS = 1 << 16

# So many hashes are computed at a time, in a core's cache: of each of these numbers xor a seed.
_TABLE = torch.from_numpy(np.random.SFC64(0).random_raw(1 << 16).view(np.int32))


class DropoutMasks:
    """Random masks of one forward pass, a function of torch's random state alone."""

    def __init__(self) -> None:
        self._seeds = np.random.SFC64(0)
        self._shifted = torch.empty_like(_TABLE)

    def reseed(self) -> None:
        """Starts anew from torch's generator: what replays that, replays the masks."""
        self._seeds = np.random.SFC64(int(torch.randint(2**62, ())))

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
        pairs = -(-count // 2)
        limit = round(p * _LEVELS) - _LEVELS // 2
        if dtype == torch.bfloat16:
            # The bits of 1 / (1 - p), or of 0, written in the place of the random ones.
            one = torch.tensor(1 / (1 - p), dtype=dtype).view(torch.int16)
            numbers = torch.empty(pairs, dtype=torch.int32)
            for part in torch.split(numbers, len(_TABLE)):
                self._hash(part)
                part.view(torch.int16).ge_(limit).mul_(one)
            return numbers.view(dtype)[:count].view(shape)
        mask = torch.empty(2 * pairs, dtype=dtype)
        numbers = torch.empty(min(pairs, len(_TABLE)), dtype=torch.int32)
        for part in torch.split(mask, 2 * len(_TABLE)):
            self._hash(numbers[: len(part) // 2])
            keep = numbers.view(torch.int16)[: len(part)].ge_(limit)
            part.copy_(keep).mul_(1 / (1 - p))
        return mask[:count].view(shape)

    def _hash(self, out: Tensor) -> None:
        """Fills an int32 tensor, no longer than the table, with random bits.

        The mixing is that of lowbias32 (C. Wellons, "Prospecting for Hash Functions", 2018), with
        two differences: it adds where that xors, because int32's shifts copy the sign, and a sign
        xor itself would be lost; and its last factor is drawn, because masks whose seeds are alike
        would be alike.
        """
        seed, odd = (int(number) for number in self._seeds.random_raw(1).view(np.int32))
        shifted = self._shifted[: len(out)]
        torch.bitwise_xor(_TABLE[: len(out)], seed, out=out)
        for shift, factor in ((16, 0x7FEB352D), (15, odd | 1)):
            torch.bitwise_right_shift(out, shift, out=shifted)
            out.add_(shifted).mul_(factor)
        torch.bitwise_right_shift(out, 16, out=shifted)
        out.add_(shifted)


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


def set_dropout(module: nn.Module, p: float) -> None:
    """Gives each dropout below a module this probability.

    Some attentions keep theirs as a plain number in place of an ``nn.Dropout``.
    """
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = p
        for name, value in list(vars(part).items()):
            if "dropout" in name and isinstance(value, float):
                setattr(part, name, p)
