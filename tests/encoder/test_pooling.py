from __future__ import annotations

import pytest
import torch

from embedft.encoder.packing import PackedLayout
from embedft.encoder.pooling import Pooling, pool, pool_packed


def test_pooling_of_padded_texts_by_hand() -> None:
    hidden = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [99.0, 99.0]]])
    mask = torch.tensor([[True, True, False]])
    assert pool(hidden, mask, "mean").tolist() == [[2.0, 3.0]]
    assert pool(hidden, mask, "cls").tolist() == [[1.0, 2.0]]
    assert pool(hidden.bfloat16(), mask, "mean").dtype == torch.float32
    assert pool(hidden.double(), mask, "mean").dtype == torch.float64


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_packed_texts_are_pooled_as_padded_ones(pooling: Pooling) -> None:
    lengths = [2, 5, 1, 5]
    layout = PackedLayout.from_lengths(torch.tensor(lengths), torch.device("cpu"))
    hidden = torch.randn(sum(lengths), 3, dtype=torch.float64, requires_grad=True)
    parts = torch.split(hidden, layout.lengths.tolist())
    padded = torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True, padding_value=99.0)
    mask = torch.arange(5) < layout.lengths[:, None]
    found, expected = pool_packed(hidden, layout, pooling), pool(padded, mask, pooling)
    torch.testing.assert_close(found, expected)
    weights = torch.randn(found.shape, dtype=torch.float64)
    torch.testing.assert_close(
        *(torch.autograd.grad(pooled, hidden, weights) for pooled in (found, expected))
    )
    assert pool_packed(hidden.detach().bfloat16(), layout, pooling).dtype == torch.float32
