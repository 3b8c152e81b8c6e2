"""A batch of any size in the memory of a few texts.

Gao et al., 2021, arXiv:2101.06983 ("GradCache"), as recomputation inside autograd: each chunk is
embedded without keeping its activations, and once more when its gradient is due. Dropout draws the
same masks again.

Shape suffixes: T tokens of a packed batch, B texts, D embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from embedft.encoder.encoder import Encoder
from embedft.encoder.packing import PackedLayout


def embed_with_grad_cache(
    encoder: Encoder, input_ids_T: Tensor, lengths_B: Tensor, chunk_size: int | None
) -> Tensor:
    """(B, D) the embeddings of packed texts, a chunk at a time; None is all at once.

    Args:
        encoder: Packed ids and lengths in, embeddings out.
        input_ids_T: (T,) int64.
        lengths_B: (B,) int64 on the CPU, tokens a text.
        chunk_size: At least 1. No chunk needs more memory than the largest run of so many texts.
    """
    if chunk_size is None or chunk_size >= len(lengths_B):
        embeddings_BD: Tensor = encoder(input_ids_T, lengths_B)
        return embeddings_BD
    # Texts of like length share a chunk: few blocks of attention each, and little padding.
    layout = PackedLayout.from_lengths(lengths_B, input_ids_T.device)
    lengths = torch.split(layout.lengths, texts_per_chunk(lengths_B, chunk_size))
    ids = torch.split(input_ids_T[layout.token_index], [int(chunk.sum()) for chunk in lengths])
    *others, last = zip(ids, lengths, strict=True)
    # Cast weights that chunks share would add up their gradients in the low precision.
    kind = input_ids_T.device.type
    autocast = torch.autocast(kind, enabled=torch.is_autocast_enabled(kind), cache_enabled=False)
    with autocast, encoder.shared_token_gradient():
        embedded = [checkpoint(encoder, *chunk, use_reentrant=False) for chunk in others]
        embedded.append(encoder(*last))  # its gradient is the first that is due: it can stay
    return torch.cat(embedded)[layout.index_of_text]


_TOKEN = 256
"""A token needs as much memory as so many scores of each head: 11 times a head's size, or more."""


def texts_per_chunk(lengths_B: Tensor, chunk_size: int) -> list[int]:
    """How many texts each chunk holds, the longest texts first.

    No chunk needs more memory than the largest run of ``chunk_size`` texts as they came.
    """
    needs_B = lengths_B * (_TOKEN + lengths_B)
    limit = max(int(run.sum()) for run in torch.split(needs_B, chunk_size))
    texts, used = [0], 0
    for need in needs_B.sort().values.tolist():  # from the shortest, so that the last are full
        if used + need > limit:
            texts.append(0)
            used = 0
        texts[-1] += 1
        used += need
    return texts[::-1]
