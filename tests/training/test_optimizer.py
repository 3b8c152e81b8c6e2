from __future__ import annotations

import pytest
import torch
from transformers import get_linear_schedule_with_warmup

from embedft.training.optimizer import linear_warmup_decay, total_steps


@pytest.mark.parametrize(
    ("batches", "accumulate", "max_steps", "limit", "expected"),
    [
        ([10, 10, 10], 1, -1, 1.0, 30),
        ([10, 11], 4, -1, None, 6),
        ([10, 10], 1, 15, 1.0, 15),
        ([10, 10], 1, 0, 1.0, 0),
        ([10, 10], 1, -1, 3, 6),
        ([10, 10], 1, -1, 0.25, 4),
        ([], 1, -1, 1.0, 0),
    ],
)
def test_total_steps(
    batches: list[int], accumulate: int, max_steps: int, limit: int | float | None, expected: int
) -> None:
    assert total_steps(batches, accumulate, max_steps, limit) == expected


def test_endless_epochs_stop_at_max_steps() -> None:
    assert total_steps(iter(lambda: 7, None), 1, 100) == 100


@pytest.mark.parametrize(("warmup", "total"), [(0, 10), (3, 10), (10, 10), (20, 10), (0, 0)])
def test_factor_is_that_of_transformers(warmup: int, total: int) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    peer = get_linear_schedule_with_warmup(optimizer, warmup, total)  # type: ignore[no-untyped-call]
    factor = linear_warmup_decay(warmup, total)
    for step in range(total + 2):
        assert factor(step) == pytest.approx(peer.get_last_lr()[0])
        optimizer.step()
        peer.step()
