"""The embeddings of all ranks as one batch, with the gradient of one process.

Shape suffixes: B rows of this rank, M rows of the rank with the most, G rows of all ranks, K texts
of a row, W ranks, D embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def gather_rows(
    local_BKD: Tensor,
    rows_per_rank: Sequence[int],
    rank: int,
    all_gather: Callable[[Tensor], Tensor],
) -> Tensor:
    """The rows of all ranks in the order of the ranks; those of this rank keep their gradient.

    Each rank then computes the loss of the whole batch. Its gradient with respect to this rank's
    embeddings is exact, although the other ranks' embeddings are constants. The gradients of the
    weights, summed over ranks, are those of one process. A strategy that averages gradients (DDP)
    needs W times the loss.

    Args:
        local_BKD: This rank's embeddings. A rank without rows gives one row that is not counted:
            its gradient is 0, but DDP waits for it.
        rows_per_rank: (W,) B of each rank.
        rank: This rank.
        all_gather: (M, K, D) on each rank to (W, M, K, D), without gradient.

    Returns:
        (G, K, D)
    """
    most = max(rows_per_rank)
    padded_MKD = local_BKD.detach().new_zeros(most, *local_BKD.shape[1:])
    count = rows_per_rank[rank]
    padded_MKD[:count] = local_BKD.detach()[:count]
    ranks = [
        part_MKD[:rows]
        for part_MKD, rows in zip(all_gather(padded_MKD), rows_per_rank, strict=True)
    ]
    ranks[rank] = local_BKD[:count]
    return torch.cat(ranks)
