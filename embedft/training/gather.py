"""The embeddings of all ranks as one batch, with the gradient of one process.

Shape suffixes: B rows of this rank, M most rows of a rank, G rows of all ranks, K texts a row,
W ranks, D embedding.
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
    """Every rank's rows in the order of the ranks; those of this rank keep their gradient.

    Each rank then computes the loss of the whole batch, and its gradient by this rank's embeddings
    is exact though the others' are constants. The sum of the ranks' gradients by the weights is
    that of one process; a strategy that averages gradients (DDP) needs W times the loss.

    Args:
        local_BKD: This rank's embeddings. A rank without rows brings one that is not counted: its
            gradient is 0, but DDP waits for it.
        rows_per_rank: (W,) B of each rank.
        rank: This rank.
        all_gather: (M, K, D) on each rank to (W, M, K, D), without gradient.

    Returns:
        (G, K, D)
    """
    most = max(rows_per_rank)
    padded_MKD = local_BKD.detach().new_zeros(most, *local_BKD.shape[1:])
    mine = rows_per_rank[rank]
    padded_MKD[:mine] = local_BKD.detach()[:mine]
    ranks = [
        part_MKD[:count]
        for part_MKD, count in zip(all_gather(padded_MKD), rows_per_rank, strict=True)
    ]
    ranks[rank] = local_BKD[:mine]
    return torch.cat(ranks)
