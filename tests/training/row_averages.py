"""One rank of test_sparse_gradients.py: averages gradients of a few rows, and checks them."""

from __future__ import annotations

import torch
from torch import distributed

from embedft.training.sparse_gradients import average_rows


def check(words: int, most: int, rank: int) -> None:
    """The ranks touch 0, ``most`` and about half of ``most`` rows, and share a few of them."""
    random = torch.Generator().manual_seed(rank)
    count = (0, most, most // 2 + 1)[rank]
    ids = torch.randint(words, (count,), generator=random)
    grad = torch.zeros(words, 3, dtype=torch.float64)
    grad.index_add_(0, ids, torch.randn(count, 3, generator=random, dtype=torch.float64))
    expected = grad.clone()
    distributed.all_reduce(expected)
    average_rows(grad, ids)
    torch.testing.assert_close(grad, expected / 3, rtol=1e-14, atol=1e-14)
    ranks = [torch.empty_like(grad) for _ in range(3)]
    distributed.all_gather(ranks, grad)
    assert all(torch.equal(grad, other) for other in ranks)


if __name__ == "__main__":
    distributed.init_process_group("gloo")
    check(words=1000, most=20, rank=distributed.get_rank())  # the rows are exchanged
    check(words=20, most=100, rank=distributed.get_rank())  # the full gradient is
    distributed.destroy_process_group()
