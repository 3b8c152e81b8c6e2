"""The word table's gradient over ranks: the few rows that a step touches travel, not the table.

In MiniLM the table is half of all weights, and a fifth of a bf16 step of 32 pairs on two ranks of a
CPU was DDP's exchange of whole gradients.

Shape suffixes: V words, H hidden size, T tokens, R rows that a rank touches, M the most of a rank.
"""

from __future__ import annotations

import functools

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from embedft.encoder.encoder import Encoder


def exclude_from_ddp(module: LightningModule, encoder: Encoder) -> None:
    """Takes the word table from DDP, before it wraps the module, and averages its gradient here.

    On CPUs alone, and where the table is trained; called by all ranks.
    """
    words = encoder.token_embedding
    on_cpu = module.trainer.strategy.root_device.type == "cpu"
    if module.trainer.world_size == 1 or not on_cpu or words is None:
        return
    if not words.weight.requires_grad:
        return
    # A group of its own: DDP's exchanges of the other gradients are under way meanwhile.
    words.average = functools.partial(average_rows, group=distributed.new_group())
    names = [name for name, weight in module.named_parameters() if weight is words.weight]
    ignore = DistributedDataParallel._set_params_and_buffers_to_ignore_for_model
    ignore(module, names)  # type: ignore[no-untyped-call]


def average_rows(
    grad_VH: Tensor, ids_T: Tensor, group: distributed.ProcessGroup | None = None
) -> None:
    """Makes a gradient the mean over ranks, in place; the same to the bit on each.

    Args:
        grad_VH: This rank's, on the CPU, 0 but in the rows ``ids_T``.
        ids_T: int64, in any order, any number of times.
        group: The ranks; None is all.
    """
    ranks = distributed.get_world_size(group)
    touched_R = torch.unique(ids_T)
    counts = [torch.zeros(1, dtype=torch.int64) for _ in range(ranks)]
    distributed.all_gather(counts, torch.tensor([len(touched_R)]), group)
    most = int(max(counts))
    if ranks * most > 2 * len(grad_VH):  # more than what a rank sends for the whole table
        distributed.all_reduce(grad_VH, group=group)
        grad_VH /= ranks
        return
    mine_M = touched_R.new_zeros(most)
    mine_M[: len(touched_R)] = touched_R
    mine_MH = grad_VH.new_zeros(most, grad_VH.shape[1])
    mine_MH[: len(touched_R)] = grad_VH[touched_R] / ranks
    ids = [torch.empty_like(mine_M) for _ in counts]
    rows = [torch.empty_like(mine_MH) for _ in counts]
    distributed.all_gather(ids, mine_M, group)
    distributed.all_gather(rows, mine_MH, group)
    grad_VH[touched_R] = 0
    for count, ids_M, rows_MH in zip(counts, ids, rows, strict=True):
        grad_VH.index_add_(0, ids_M[: int(count)], rows_MH[: int(count)])
