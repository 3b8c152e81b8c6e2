from __future__ import annotations

import pytest
import torch
from torch import nn

from embedft.encoder.token_embedding import TokenEmbedding


@pytest.mark.parametrize("padding", [None, 1])
def test_is_torchs_embedding(padding: int | None) -> None:
    """Values and gradients over several steps, two backward passes to a step."""
    theirs = nn.Embedding(20, 4, padding_idx=padding).double()
    table = nn.Embedding(20, 4, padding_idx=padding).double()
    table.load_state_dict(theirs.state_dict())
    ours = TokenEmbedding(table)
    assert ours.weight is table.weight
    for step in range(3):
        for part in range(2):
            ids = torch.randint(0, 20, (1, 30), generator=torch.manual_seed(10 * step + part))
            weights = torch.randn(1, 30, 4, dtype=torch.float64)
            assert torch.equal(ours(ids), theirs(ids))
            for module in (ours, theirs):
                (module(ids) * weights).sum().backward()
        torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, rtol=1e-14, atol=1e-14)
        ours.reclaim_gradient()
        theirs.zero_grad()


def test_memory_is_used_again() -> None:
    module = TokenEmbedding(nn.Embedding(20, 4))
    addresses = []
    for _ in range(3):
        module(torch.tensor([1, 2])).sum().backward()
        assert module.weight.grad is not None
        addresses.append(module.weight.grad.data_ptr())
        module.reclaim_gradient()
    assert len(set(addresses)) == 1


def test_look_ups_together() -> None:
    """Several look-ups in one backward pass, twice through the same graph, and on top of another."""
    theirs = nn.Embedding(20, 4).double()
    table = nn.Embedding(20, 4).double()
    table.load_state_dict(theirs.state_dict())
    ours = TokenEmbedding(table)
    parts = [torch.randint(0, 20, (1, 7), generator=torch.manual_seed(i)) for i in range(3)]
    with ours.shared_gradient():
        total = torch.stack([(ours(ids) ** 2).sum() for ids in parts]).sum()
    expected = torch.stack([(theirs(ids) ** 2).sum() for ids in parts]).sum()
    for _ in range(2):
        torch.autograd.backward(total, retain_graph=True)
        torch.autograd.backward(expected, retain_graph=True)
        torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, rtol=1e-14, atol=1e-14)
    for module in (ours, theirs):
        module(parts[0]).sum().backward()
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, rtol=1e-14, atol=1e-14)
