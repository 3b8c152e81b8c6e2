from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from embedft.encoder import attention, block_attention
from embedft.encoder.attention import packed_attention
from embedft.encoder.dropout import DropoutMasks
from embedft.encoder.packing import PackedLayout

LENGTHS = [5, 1, 12, 12, 3, 30, 11]
HEADS, SIZE = 3, 4


class Ones(DropoutMasks):
    """Masks that keep all elements, so that attention with dropout has an exact expectation."""

    def draw(self, shape: torch.Size, p: float, dtype: torch.dtype) -> Tensor:
        return torch.full(shape, 1 / (1 - p), dtype=dtype)


Tables = tuple[Tensor, Tensor, Tensor]


def inputs(seed: int = 0) -> tuple[PackedLayout, Tables, Tensor]:
    torch.manual_seed(seed)
    layout = PackedLayout.from_lengths(torch.tensor(LENGTHS), torch.device("cpu"))
    tokens = sum(LENGTHS)

    def table() -> Tensor:
        return torch.randn(tokens, HEADS, SIZE, dtype=torch.float64, requires_grad=True)

    tables = (table(), table(), table())
    longest = layout.blocks[0].length
    bias = torch.randn(HEADS, longest, longest, dtype=torch.float64, requires_grad=True)
    return layout, tables, bias


def by_hand(
    layout: PackedLayout, tables: Tables, window: int | None, bias: Tensor | None
) -> Tensor:
    """The formula, one text and one head at a time."""
    outputs = []
    for query, key, value in zip(
        *(torch.split(table, layout.lengths.tolist()) for table in tables), strict=True
    ):
        length = len(query)
        heads = []
        for head in range(HEADS):
            scores = 0.5 * query[:, head] @ key[:, head].T
            if bias is not None:
                scores = scores + bias[head, :length, :length]
            if window is not None:
                positions = torch.arange(length)
                far = (positions[:, None] - positions).abs() >= window
                scores = scores.masked_fill(far, -torch.inf)
            heads.append(scores.softmax(-1) @ value[:, head])
        outputs.append(torch.stack(heads, dim=1))
    return torch.cat(outputs)


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("window", [None, 3, 200])
@pytest.mark.parametrize("way", ["step by step", "long texts", "other devices"])
def test_values_and_gradients(
    window: int | None, with_bias: bool, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout, tables, bias = inputs()
    monkeypatch.setattr(block_attention, "_FUSED_LENGTH", 9 if way == "long texts" else 99)
    if way == "other devices":  # their code also runs on a CPU

        def without_masks(*args: Any) -> Tensor:
            *inputs, _, window = args
            return attention._blockwise_attention(*inputs, window)  # type: ignore[call-arg]

        monkeypatch.setattr(block_attention.BlockAttention, "apply", without_masks)
    used = (*tables, bias) if with_bias else tables
    bias_used = bias if with_bias else None
    output = packed_attention(*tables, layout, scale=0.5, window=window, bias_HLL=bias_used)
    expected = by_hand(layout, tables, window, bias_used)
    torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
    weights = torch.randn_like(output)
    ours = torch.autograd.grad(output, used, weights)
    theirs = torch.autograd.grad(expected, used, weights)
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)


def test_gradients_with_dropout() -> None:
    """Against finite differences, with the masks of one seed."""
    layout, tables, bias = inputs()

    def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        torch.manual_seed(3)
        masks = DropoutMasks()
        masks.reseed()
        return packed_attention(
            query, key, value, layout, scale=0.5, dropout=0.3, masks=masks, bias_HLL=bias
        )

    assert torch.autograd.gradcheck(attend, (*tables, bias), atol=1e-6, fast_mode=True)


def test_dropout_scales_what_it_keeps() -> None:
    layout, tables, _ = inputs()
    plain = packed_attention(*tables, layout, scale=0.5)
    kept = packed_attention(*tables, layout, scale=0.5, dropout=0.5, masks=Ones())
    torch.testing.assert_close(kept, 2 * plain)


def test_dropout_zeroes_its_share_of_weights() -> None:
    layout, (query, key, _), _ = inputs()
    ones = torch.ones(sum(LENGTHS), HEADS, SIZE, dtype=torch.float64)
    masks = DropoutMasks()
    sums = torch.stack(
        [
            packed_attention(query, key, ones, layout, scale=0.5, dropout=0.1, masks=masks)
            for _ in range(300)
        ]
    )
    assert sums.mean().item() == pytest.approx(1, abs=0.01)
    assert sums.std().item() > 0.05


def test_texts_do_not_see_each_other() -> None:
    layout, tables, _ = inputs()
    before = packed_attention(*tables, layout, scale=0.5)
    query, key, value = (table.detach().clone() for table in tables)
    for table in (query, key, value):
        table[: layout.lengths[0]] += 1
    after = packed_attention(query, key, value, layout, scale=0.5)
    first = int(layout.lengths[0])
    assert torch.equal(before[first:], after[first:])
    assert not torch.allclose(before[:first], after[:first])


@pytest.mark.parametrize("long", [9, 99])
def test_bf16_softmax_is_computed_in_float32(long: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_attention, "_FUSED_LENGTH", long)
    layout, tables, _ = inputs()
    exact = packed_attention(*tables, layout, scale=0.5)
    query, key, value = (table.bfloat16() for table in tables)
    rounded = packed_attention(query, key, value, layout, scale=0.5)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.double(), exact, rtol=0.02, atol=0.02)
    ours = torch.autograd.grad(rounded, (query, key, value), torch.ones_like(rounded))
    theirs = torch.autograd.grad(exact, tables, torch.ones_like(exact))
    for our, their in zip(ours, theirs, strict=True):
        assert (our.double() - their).norm() < 0.02 * their.norm()


def test_dropout_reaches_long_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's fused kernel has no dropout."""
    monkeypatch.setattr(block_attention, "_FUSED_LENGTH", 9)
    layout, tables, _ = inputs()
    plain = packed_attention(*tables, layout, scale=0.5)
    kept = packed_attention(*tables, layout, scale=0.5, dropout=0.5, masks=Ones())
    torch.testing.assert_close(kept, 2 * plain)
