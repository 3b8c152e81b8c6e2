"""The memory layout of a packed batch: texts one after the other, longest first, no padding.

Only attention works on blocks: texts of similar length, as matrices padded to a common length.

Shape suffixes: B texts, T tokens of the batch, N texts of a block, H heads, L length of a block,
S = sum of N·H·L over the blocks, P padding positions in the blocks.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

_BLOCK_COST = 4096
"""Fixed cost of one more block on a CPU, in attention scores per head."""

_MAX_SCORES = 1 << 18
"""Most attention scores per head and core in one block: more do not stay in a CPU's caches."""

# Texts are padded together if each has at least this share of the longest one's tokens.
_SHORTEST_SHARE = 0.75


def block_length(length: int) -> int:
    """The padded length of a block whose longest text has ``length`` tokens.

    Rounded up to a multiple of 8, above 128 of 16. A CPU's library compiles matrix products for
    each new length, which costs more than the arithmetic on the padding.
    """
    step = 8 if length <= 128 else 16
    return -(-length // step) * step


def _merge_groups(groups: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Merges neighbouring groups if their padding costs less than another block.

    Dynamic programming over the groups; the total cost of the result is the least possible.

    Args:
        groups: (length, texts) of each group, the longest first.
    """
    texts_before = [0, *itertools.accumulate(texts for _, texts in groups)]
    best = [(0, 0)]  # for the first i groups: least cost, and first group of the last block
    for end in range(1, len(groups) + 1):
        options = []
        for first, (length, _) in enumerate(groups[:end]):
            scores = (texts_before[end] - texts_before[first]) * length**2
            options.append((best[first][0] + _BLOCK_COST + scores, first))
        best.append(min(options))
    merged, end = [], len(groups)
    while end:
        first = best[end][1]
        merged.append((groups[first][0], texts_before[end] - texts_before[first]))
        end = first
    return merged[::-1]


def _split_group(length: int, texts: int, threads: int) -> list[int]:
    """Splits a group into blocks that fit the caches; returns the number of texts of each.

    All but the last are powers of two: a CPU's library compiles products for each number of texts.
    """
    most = max(1, threads * _MAX_SCORES // length**2)
    most = 1 << (most.bit_length() - 1)
    return [most] * (texts // most) + [texts % most] * (texts % most > 0)


class PackedBlock(NamedTuple):
    """Texts whose attention is computed in one call.

    Attributes:
        texts: N.
        length: L, :func:`block_length` of the longest text.
        padding: (N, 1, 1, L) float32 on the batch's device, to be added to the scores: -inf after
            the end of a text, else 0. None if all texts have length L.
    """

    texts: int
    length: int
    padding: Tensor | None


class HeadIndex(NamedTuple):
    """Index between a (T·H) table of heads and the blocks, each block an (N, H, L) table.

    Attributes:
        blocks: (S,) int64, for each position in the blocks its row in the table. A padding position
            points to the last token of its text.
        rows: (T·H,) int64, the inverse: for each row of the table its position in the blocks.
        padding: (P,) int64, the padding positions.
    """

    blocks: Tensor
    rows: Tensor
    padding: Tensor


@dataclass(frozen=True)
class PackedLayout:
    """A batch sorted by length.

    Only the short vectors below are copied to the device; all values per token are computed there,
    so that a GPU never has to wait.

    Attributes:
        order: (B,) int64 on the CPU; index i of the layout holds text ``order[i]`` of the batch.
        lengths: (B,) int64 on the CPU, tokens per text, descending.
        batch_starts: (B,) int64 on the CPU, where each text begins in the unsorted batch.
        device: The device that computes the batch.
    """

    order: Tensor
    lengths: Tensor
    batch_starts: Tensor
    device: torch.device
    _head_indexes: dict[int, HeadIndex] = field(default_factory=dict)

    @classmethod
    def from_lengths(cls, lengths_B: Tensor, device: torch.device) -> PackedLayout:
        """The layout of texts with these lengths, (B,) int64 on the CPU, each at least 1."""
        sorted_B, order_B = lengths_B.sort(descending=True, stable=True)
        return cls(order_B, sorted_B, (lengths_B.cumsum(0) - lengths_B)[order_B], device)

    @property
    def longest(self) -> int:
        """Tokens of the longest text."""
        return int(self.lengths[0])

    @cached_property
    def starts(self) -> Tensor:
        """(B,) int64 on the CPU, where each text begins in the layout."""
        return self.lengths.cumsum(0) - self.lengths

    @cached_property
    def index_of_text(self) -> Tensor:
        """(B,) int64 on the device, the index in the layout of each text of the batch."""
        return self.order.argsort().to(self.device, non_blocking=True)

    @cached_property
    def device_lengths(self) -> Tensor:
        """(B,) int64, ``lengths`` on the device."""
        return self.lengths.to(self.device, non_blocking=True)

    @cached_property
    def cu_seqlens(self) -> Tensor:
        """(B + 1,) int32 on the device, where each text begins, then T, for fused kernels."""
        ends = torch.cat([self.starts, self.starts[-1:] + self.lengths[-1:]])
        return ends.int().to(self.device, non_blocking=True)

    @cached_property
    def token_index(self) -> Tensor:
        """(T,) int64 on the device, the index in the unsorted batch of each token of the layout."""
        return self._token_index_plus(self.batch_starts - self.starts)

    @cached_property
    def position_ids(self) -> Tensor:
        """(T,) int64 on the device, each token's position in its text, from 0."""
        return self._token_index_plus(-self.starts)

    @cached_property
    def text_of_token(self) -> Tensor:
        """(T,) int64 on the device, the text of the layout that each token belongs to."""
        return self._repeat_for_tokens(torch.arange(len(self.lengths)))

    def _repeat_for_tokens(self, values_B: Tensor) -> Tensor:
        """(T,) on the device, each text's value repeated for each of its tokens."""
        values_B = values_B.to(self.device, non_blocking=True)
        return values_B.repeat_interleave(self.device_lengths, output_size=int(self.lengths.sum()))

    def _token_index_plus(self, offset_B: Tensor) -> Tensor:
        """(T,) on the device, each token's index in the layout plus the offset of its text."""
        offset_T = self._repeat_for_tokens(offset_B)
        return torch.arange(len(offset_T), device=self.device) + offset_T

    @cached_property
    def _block_lengths(self) -> list[tuple[int, Tensor]]:
        """For each block L and (N,) the lengths of its texts."""
        by_length = itertools.groupby(self.lengths.tolist(), block_length)
        groups = _merge_groups([(length, len(list(texts))) for length, texts in by_length])
        sizes = [texts for _, texts in groups]
        if self.device.type == "cpu":
            threads = torch.get_num_threads()
            sizes = [part for group in groups for part in _split_group(*group, threads)]
        split_lengths = torch.split(self.lengths, sizes)
        return [(block_length(int(lengths_N[0])), lengths_N) for lengths_N in split_lengths]

    @cached_property
    def blocks(self) -> list[PackedBlock]:
        """The blocks, the longest texts first."""
        blocks = []
        for length, lengths_N in self._block_lengths:
            padding = None
            if int(lengths_N[-1]) < length:
                outside_NL = torch.arange(length) >= lengths_N.unsqueeze(1)
                padding = torch.zeros(outside_NL.shape).masked_fill_(outside_NL, -torch.inf)
                padding = padding[:, None, None].to(self.device, non_blocking=True)
            blocks.append(PackedBlock(len(lengths_N), length, padding))
        return blocks

    def head_index(self, heads: int) -> HeadIndex:
        """The index of all tokens' heads in the blocks; computed once per number of heads."""
        if heads not in self._head_indexes:
            self._head_indexes[heads] = self._build_head_index(heads)
        return self._head_indexes[heads]

    def _build_head_index(self, heads: int) -> HeadIndex:
        blocks, rows, padding = [], [], []
        start = 0
        head_H1 = torch.arange(heads).unsqueeze(1)
        sizes = [len(lengths_N) for _, lengths_N in self._block_lengths]
        for (length, lengths_N), first_N in zip(
            self._block_lengths, torch.split(self.starts, sizes), strict=True
        ):
            position_L = torch.arange(length)
            last_N11 = (lengths_N - 1).view(-1, 1, 1)
            token_N1L = first_N.view(-1, 1, 1) + torch.minimum(position_L, last_N11)
            blocks.append((token_N1L * heads + head_H1).flatten())
            block_index_NHL = start + torch.arange(len(blocks[-1])).view(len(lengths_N), heads, -1)
            inside_NL = position_L < lengths_N.unsqueeze(1)
            rows.append(block_index_NHL.transpose(1, 2)[inside_NL].flatten())
            padding.append(block_index_NHL.transpose(1, 2)[~inside_NL].flatten())
            start += block_index_NHL.numel()
        return HeadIndex(
            *(
                torch.cat(parts).to(self.device, non_blocking=True)
                for parts in (blocks, rows, padding)
            )
        )


def pad_to_multiple(
    input_ids_T: Tensor, lengths_B: Tensor, pad_token_id: int
) -> tuple[Tensor, Tensor]:
    """Adds texts of padding at the end of a batch, so that few numbers of tokens occur.

    Each new number of tokens costs time: on a CPU 7 ms and 10 MB to compile the matrix products, on
    a GPU 0.1 to 0.2 ms per product to choose a kernel.

    Args:
        input_ids_T: (T,) int64 ids of the texts.
        lengths_B: (B,) int64 tokens per text.
        pad_token_id: The id that fills the added texts.

    Returns:
        Ids and lengths of the larger batch; no added text is longer than the longest one given.
    """
    missing = -len(input_ids_T) % _token_multiple(len(input_ids_T), input_ids_T.device)
    if not missing:
        return input_ids_T, lengths_B
    longest = int(lengths_B.max())
    padding = [longest] * (missing // longest) + [missing % longest] * (missing % longest > 0)
    pad_T = input_ids_T.new_full((missing,), pad_token_id)
    return torch.cat([input_ids_T, pad_T]), torch.cat([lengths_B, lengths_B.new_tensor(padding)])


def _token_multiple(tokens: int, device: torch.device) -> int:
    """The multiple that a number of tokens is rounded up to.

    On a GPU it grows with the tokens, from a 32nd to a 16th of them, so that few numbers occur.
    """
    return 32 if device.type == "cpu" else 1 << max(6, tokens.bit_length() - 5)


def similar_lengths(lengths: list[int]) -> list[tuple[int, int]]:
    """Splits descending lengths into groups to pad together: (start, end) of each."""
    groups = []
    start = 0
    for index, length in enumerate(lengths):
        if length < _SHORTEST_SHARE * lengths[start]:
            groups.append((start, index))
            start = index
    groups.append((start, len(lengths)))
    return groups
