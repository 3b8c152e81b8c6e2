"""The gradient of the token embeddings over ranks: only the rows that a step touches are exchanged.

In MiniLM the token embeddings are half of all weights. On two ranks of a CPU, DDP's exchange of
whole gradients took a fifth of a bf16 step of 32 pairs.

Shape suffixes: V tokens of the vocabulary, H hidden size, T tokens, R rows that a rank touches,
M rows of the rank that touches most.
"""

from __future__ import annotations

import functools

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from embedft.encoder.encoder import Encoder


def exclude_from_ddp(module: LightningModule, encoder: Encoder) -> None:
    """Excludes the token embeddings from DDP, and averages their gradient here instead.

    It must run on all ranks, before DDP wraps the module. It does nothing on GPUs, or if the token
    embeddings are not trained.

    Args:
        module: Whose strategy may be DDP.
        encoder: Of the module.
    """
    embedding = encoder.token_embedding
    on_cpu = module.trainer.strategy.root_device.type == "cpu"
    if module.trainer.world_size == 1 or not on_cpu or embedding is None:
        return
    if not embedding.weight.requires_grad:
        return
    # A separate group, because DDP exchanges the other gradients at the same time.
    embedding.average = functools.partial(average_rows, group=distributed.new_group())
    names = [name for name, weight in module.named_parameters() if weight is embedding.weight]
    ignore = DistributedDataParallel._set_params_and_buffers_to_ignore_for_model
    ignore(module, names)  # type: ignore[no-untyped-call]


def average_rows(
    grad_VH: Tensor, ids_T: Tensor, group: distributed.ProcessGroup | None = None
) -> None:
    """Replaces a gradient by its mean over ranks, in place; bit-identical on all ranks.

    Args:
        grad_VH: Gradient of this rank, on the CPU; 0 except in the rows ``ids_T``.
        ids_T: int64, in any order, repeated or not.
        group: The ranks; None is all ranks.
    """
    ranks = distributed.get_world_size(group)
    touched_R = torch.unique(ids_T)
    counts = [torch.zeros(1, dtype=torch.int64) for _ in range(ranks)]
    distributed.all_gather(counts, torch.tensor([len(touched_R)]), group)
    most = int(max(counts))
    if ranks * most > 2 * len(grad_VH):  # more than a rank sends for the full gradient
        distributed.all_reduce(grad_VH, group=group)
        grad_VH /= ranks
        return
    local_M = touched_R.new_zeros(most)
    local_M[: len(touched_R)] = touched_R
    local_MH = grad_VH.new_zeros(most, grad_VH.shape[1])
    local_MH[: len(touched_R)] = grad_VH[touched_R] / ranks
    ids = [torch.empty_like(local_M) for _ in counts]
    rows = [torch.empty_like(local_MH) for _ in counts]
    distributed.all_gather(ids, local_M, group)
    distributed.all_gather(rows, local_MH, group)
    grad_VH[touched_R] = 0
    for count, ids_M, rows_MH in zip(counts, ids, rows, strict=True):
        grad_VH.index_add_(0, ids_M[: int(count)], rows_MH[: int(count)])
