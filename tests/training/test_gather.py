"""The embeddings of all ranks as one batch."""

from __future__ import annotations

import pytest
import torch

from embedft.training.gather import gather_rows


@pytest.mark.parametrize("counts", [(2, 2), (2, 1), (1, 0), (0, 1)])
def test_gathered_gradients_add_up(counts: tuple[int, int]) -> None:
    """The sum over ranks is the gradient of one process, also if a rank has fewer rows or none."""
    whole = torch.randn(sum(counts), 2, 3, dtype=torch.float64, requires_grad=True)

    def loss(rows: torch.Tensor) -> torch.Tensor:
        return (rows[:, 0] @ rows[:, 1].T).exp().sum()

    (expected,) = torch.autograd.grad(loss(whole), whole)
    shares = torch.split(whole.detach(), list(counts))
    locals_ = [share if len(share) else whole.detach()[:1] for share in shares]
    padded = torch.stack(
        [torch.cat([share, share.new_zeros(max(counts) - len(share), 2, 3)]) for share in shares]
    )
    gradients = []
    for rank, local in enumerate(locals_):
        local = local.clone().requires_grad_()
        rows = gather_rows(local, counts, rank, lambda _: padded)
        assert torch.equal(rows, whole)
        (gradient,) = torch.autograd.grad(loss(rows), local)
        assert gradient.abs().sum() == 0 or counts[rank]
        gradients.append(gradient[: counts[rank]])
    torch.testing.assert_close(torch.cat(gradients), expected, rtol=1e-14, atol=1e-14)
