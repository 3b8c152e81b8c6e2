"""Dropout at a fraction of its usual cost on a CPU.

PyTorch's dropout draws one random number per element on a single core, which takes a third of a
training step. Here tensor operations on all cores compute 32-bit hashes, and each hash decides over
two elements.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

_LEVELS = 1 << 16

# The numbers to hash, each xor a seed. The table is small enough for a core's cache.
_TABLE = torch.from_numpy(np.random.SFC64(0).random_raw(1 << 16).view(np.int32))


class DropoutMasks:
    """Random masks of one forward pass, which depend only on torch's random state."""

    def __init__(self) -> None:
        self._seeds = np.random.SFC64(0)
        self._shifted = torch.empty_like(_TABLE)

    def reseed(self) -> None:
        """Restarts from torch's generator: restoring its state replays the masks."""
        self._seeds = np.random.SFC64(int(torch.randint(2**62, ())))

    def draw(self, shape: torch.Size, p: float, dtype: torch.dtype) -> Tensor:
        """A mask whose elements are 0 with probability p, else 1 / (1 - p).

        Args:
            shape: Shape of the mask.
            p: In [0, 1), rounded to a multiple of 1/65536.
            dtype: Data type of the mask.

        Returns:
            The mask in ``dtype``; 1 / (1 - p) is rounded to it.
        """
        count = shape.numel()
        pairs = -(-count // 2)
        limit = round(p * _LEVELS) - _LEVELS // 2
        if dtype == torch.bfloat16:
            # Each 16-bit random number is replaced by the bits of 1 / (1 - p) or of 0.
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

        The hash is lowbias32 (C. Wellons, "Prospecting for Hash Functions", 2018) with two
        differences. It adds instead of xor: int32 shifts copy the sign bit, and the xor of the sign
        with itself would lose it. Its last factor is random: otherwise similar seeds would give
        similar masks.
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
    """``nn.Dropout`` that uses :class:`DropoutMasks` on a CPU.

    Args:
        p: Probability that an element is set to zero.
        masks: Shared by the layers of one encoder.
    """

    def __init__(self, p: float, masks: DropoutMasks) -> None:
        super().__init__()
        self.p = p
        self.masks = masks

    def forward(self, values: Tensor) -> Tensor:
        """In training, sets elements to zero and scales the others by 1 / (1 - p)."""
        if not self.training or self.p == 0:
            return values
        if values.device.type != "cpu":
            return nn.functional.dropout(values, self.p)
        return values * self.masks.draw(values.shape, self.p, values.dtype)


def replace_dropout(module: nn.Module, masks: DropoutMasks) -> None:
    """Replaces each ``nn.Dropout`` within a module by :class:`FastDropout`."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Dropout:
                setattr(parent, name, FastDropout(child.p, masks))


def set_dropout(module: nn.Module, p: float) -> None:
    """Sets the probability of each dropout within a module.

    Some attention modules hold it as a plain number instead of an ``nn.Dropout``.
    """
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = p
        for name, value in list(vars(part).items()):
            if "dropout" in name and isinstance(value, float):
                setattr(part, name, p)
