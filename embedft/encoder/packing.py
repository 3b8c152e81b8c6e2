"""How a packed batch lies in memory: texts one after the other, the longest first, no padding.

Attention alone works on blocks: texts of like length, as matrices of the longest's size.

Shape suffixes: B texts, T tokens of the batch, N texts of a block, H heads, L length of a block,
S = sum of N·H·L over the blocks.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor


def block_length(length: int) -> int:
    """The length of a block whose longest text has a length: some places are padding.

    Lengths that differ from batch to batch cost more than the arithmetic on these places, because a
    CPU's library compiles products for each.
    """
    step = 8 if length <= 128 else 16
    return -(-length // step) * step


_BLOCK = 4096
"""A block more costs a CPU as much as so many scores of each head."""


def _merged(runs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Joins neighbours where more padding costs less than a block more.

    Args:
        runs: (length, texts) of each, the longest first.
    """
    before = [0, *itertools.accumulate(texts for _, texts in runs)]
    best = [(0, 0)]  # of the runs up to each: cost, and where the last block begins
    for end in range(1, len(runs) + 1):
        ways = []
        for first, (length, _) in enumerate(runs[:end]):
            scores = (before[end] - before[first]) * length**2
            ways.append((best[first][0] + _BLOCK + scores, first))
        best.append(min(ways))
    merged, end = [], len(runs)
    while end:
        first = best[end][1]
        merged.append((runs[first][0], before[end] - before[first]))
        end = first
    return merged[::-1]


_MOST = 1 << 18
"""Scores of each head and core in a block: the caches lose what has more, between two passes."""


def _cut(length: int, texts: int, threads: int) -> list[int]:
    """Cuts the texts of a block into blocks that are not too large, of one text each at least.

    Of powers of two, but the last: a CPU's library compiles products for each number of texts.
    """
    most = max(1, threads * _MOST // length**2)
    most = 1 << (most.bit_length() - 1)
    return [most] * (texts // most) + [texts % most] * (texts % most > 0)


class PackedBlock(NamedTuple):
    """Texts that attend in one call.

    Attributes:
        texts: N.
        length: L, :func:`block_length` of the longest of them.
        padding: (N, 1, 1, L) float32 on the device, to be added to scores: -inf behind a text's
            end, else 0; None if all have length L.
    """

    texts: int
    length: int
    padding: Tensor | None


class HeadIndex(NamedTuple):
    """Where the heads of tokens lie in the blocks, each block a (N, H, L) table.

    Attributes:
        blocks: (S,) int64, for each place of the blocks the row of a (T·H) table of heads; behind
            a text's end that of its last token.
        rows: (T·H,) int64, the way back: for each row its place.
        padding: (P,) int64, the places behind a text's end.
    """

    blocks: Tensor
    rows: Tensor
    padding: Tensor


@dataclass(frozen=True)
class PackedLayout:
    """A batch sorted by length.

    Attributes:
        order: (B,) int64 on the CPU, position i of the layout holds text ``order[i]`` of the batch.
        lengths: (B,) int64 on the CPU, tokens a text, descending.
        batch_starts: (B,) int64 on the CPU, where each text begins in the batch as it came.
        device: Where the batch is computed. What has a row a token is made there: from the two
            short vectors above, which a GPU gets without a wait.
    """

    order: Tensor
    lengths: Tensor
    batch_starts: Tensor
    device: torch.device
    _by_heads: dict[int, HeadIndex] = field(default_factory=dict)

    @classmethod
    def from_lengths(cls, lengths_B: Tensor, device: torch.device) -> PackedLayout:
        """The layout of texts of these lengths, (B,) int64 on the CPU, each at least 1."""
        sorted_B, order_B = lengths_B.sort(descending=True, stable=True)
        return cls(order_B, sorted_B, (lengths_B.cumsum(0) - lengths_B)[order_B], device)

    @property
    def longest(self) -> int:
        """Tokens of the longest text."""
        return int(self.lengths[0])

    @cached_property
    def starts(self) -> Tensor:
        """(B,) int64 on the CPU, where each text begins."""
        return self.lengths.cumsum(0) - self.lengths

    @cached_property
    def index_of_text(self) -> Tensor:
        """(B,) int64 on the device, where in the layout each text of the batch is."""
        return self.order.argsort().to(self.device, non_blocking=True)

    @cached_property
    def device_lengths(self) -> Tensor:
        """(B,) int64, the lengths on the device."""
        return self.lengths.to(self.device, non_blocking=True)

    @cached_property
    def cu_seqlens(self) -> Tensor:
        """(B + 1,) int32 on the device, where each text begins, and at last T."""
        ends = torch.cat([self.starts, self.starts[-1:] + self.lengths[-1:]])
        return ends.int().to(self.device, non_blocking=True)

    @cached_property
    def token_index(self) -> Tensor:
        """(T,) int64 on the device, where each token of the layout lies in the batch as it came."""
        return self._counted_on(self.batch_starts - self.starts)

    @cached_property
    def position_ids(self) -> Tensor:
        """(T,) int64 on the device, each token's place in its text, from 0."""
        return self._counted_on(-self.starts)

    @cached_property
    def text_of_token(self) -> Tensor:
        """(T,) int64 on the device, which text of the layout a token belongs to."""
        return self._for_tokens(torch.arange(len(self.lengths)))

    def _for_tokens(self, values_B: Tensor) -> Tensor:
        """(T,) on the device, each text's value for each of its tokens."""
        values_B = values_B.to(self.device, non_blocking=True)
        return values_B.repeat_interleave(self.device_lengths, output_size=int(self.lengths.sum()))

    def _counted_on(self, start_B: Tensor) -> Tensor:
        """(T,) on the device, each token's place in the layout, counted from its text's start."""
        start_T = self._for_tokens(start_B)
        return torch.arange(len(start_T), device=self.device) + start_T

    @cached_property
    def _runs(self) -> list[tuple[int, Tensor]]:
        """The length of each block, and those of its texts."""
        by_length = itertools.groupby(self.lengths.tolist(), block_length)
        runs = _merged([(length, len(list(texts))) for length, texts in by_length])
        sizes = [texts for _, texts in runs]
        if self.device.type == "cpu":
            threads = torch.get_num_threads()
            sizes = [part for run in runs for part in _cut(*run, threads)]
        lengths = torch.split(self.lengths, sizes)
        return [(block_length(int(some[0])), some) for some in lengths]

    @cached_property
    def blocks(self) -> list[PackedBlock]:
        """The blocks, the longest texts first."""
        blocks = []
        for length, lengths_N in self._runs:
            padding = None
            if int(lengths_N[-1]) < length:
                outside_NL = torch.arange(length) >= lengths_N.unsqueeze(1)
                padding = torch.zeros(outside_NL.shape).masked_fill_(outside_NL, -torch.inf)
                padding = padding[:, None, None].to(self.device, non_blocking=True)
            blocks.append(PackedBlock(len(lengths_N), length, padding))
        return blocks

    def head_index(self, heads: int) -> HeadIndex:
        """Where the heads of all tokens lie in the blocks; computed once."""
        if heads not in self._by_heads:
            self._by_heads[heads] = self._head_index(heads)
        return self._by_heads[heads]

    def _head_index(self, heads: int) -> HeadIndex:
        blocks, rows, padding = [], [], []
        start = 0
        head_H1 = torch.arange(heads).unsqueeze(1)
        sizes = [len(lengths_N) for _, lengths_N in self._runs]
        for (length, lengths_N), first_N in zip(
            self._runs, torch.split(self.starts, sizes), strict=True
        ):
            place_L = torch.arange(length)
            last_N11 = (lengths_N - 1).view(-1, 1, 1)
            token_N1L = first_N.view(-1, 1, 1) + torch.minimum(place_L, last_N11)
            blocks.append((token_N1L * heads + head_H1).flatten())
            slot_NHL = start + torch.arange(len(blocks[-1])).view(len(lengths_N), heads, -1)
            inside_NL = place_L < lengths_N.unsqueeze(1)
            rows.append(slot_NHL.transpose(1, 2)[inside_NL].flatten())
            padding.append(slot_NHL.transpose(1, 2)[~inside_NL].flatten())
            start += slot_NHL.numel()
        return HeadIndex(
            *(
                torch.cat(parts).to(self.device, non_blocking=True)
                for parts in (blocks, rows, padding)
            )
        )
