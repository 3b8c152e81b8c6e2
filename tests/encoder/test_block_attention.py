from __future__ import annotations

import pytest
import torch

from embedft.encoder import block_attention
from embedft.encoder.block_attention import added_scores, block_parts, fused_mask
from embedft.encoder.packing import PackedBlock, PackedLayout


def test_parts_of_blocks_share_their_memory() -> None:
    blocks = [PackedBlock(2, 16, None), PackedBlock(1, 8, None)]
    values = torch.zeros(3 * (2 * 16 + 8), 4)
    first, second = block_parts(values, blocks)
    assert (first.shape, second.shape) == ((6, 16, 4), (3, 8, 4))
    second.fill_(1)
    assert values.sum() == second.numel()


@pytest.mark.parametrize("window", [None, 2, 9])
def test_added_scores_exclude_padding_and_distant_positions(window: int | None) -> None:
    """Texts of 8, 5 and 1 tokens. A row of padding keeps a score, or its softmax would be NaN."""
    layout = PackedLayout.from_lengths(torch.tensor([5, 8, 1]), torch.device("cpu"))
    (block,) = layout.blocks
    bias = torch.randn(2, 20, 20)
    total = torch.zeros(3, 2, 8, 8)
    for term in added_scores(block, window, bias, torch.device("cpu")):
        total += term
    for text, length in enumerate([8, 5, 1]):
        for query in range(length):
            for key in range(8):
                reachable = key < length and (window is None or abs(query - key) < window)
                expected = bias[:, query, key] if reachable else torch.full((2,), -torch.inf)
                assert torch.equal(total[text, :, query, key], expected)
    assert not total.softmax(-1).isnan().any()


def test_nothing_is_added_without_bias_window_and_padding() -> None:
    added = added_scores(PackedBlock(3, 8, None), None, None, torch.device("cpu"))
    assert added == []
    assert fused_mask(added, torch.float32) is None


def test_a_fused_mask_has_four_dimensions() -> None:
    bias, padding = torch.randn(2, 8, 8), torch.randn(3, 1, 1, 8)
    mask = fused_mask([bias, padding], torch.bfloat16)
    assert mask is not None
    assert mask.shape == (3, 2, 8, 8)
    assert torch.equal(mask, (bias + padding).bfloat16())
    only_window = fused_mask([torch.zeros(8, 8)], torch.float32)
    assert only_window is not None
    assert only_window.shape == (1, 1, 8, 8)


def test_bf16_products_by_powers_of_two_equal_one_product() -> None:
    block = PackedBlock(texts=13, length=8, padding=None)
    first, second = torch.randn(2, 13 * 3, 8, 8).bfloat16()
    out = torch.empty_like(first)
    assert block_attention._bmm(first, second, block, out) is out
    torch.testing.assert_close(out, torch.bmm(first, second))
    torch.testing.assert_close(block_attention._bmm(first, second, block), out)
