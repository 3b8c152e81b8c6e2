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


def embed_in_chunks(
    encoder: Encoder, input_ids_T: Tensor, lengths_B: Tensor, chunk_size: int | None
) -> Tensor:
    """(B, D) the embeddings of packed texts, a chunk at a time; None is all at once.

    Args:
        encoder: Packed ids and lengths in, embeddings out.
        input_ids_T: (T,) int64.
        lengths_B: (B,) int64 on the CPU, tokens a text.
        chunk_size: At least 1. No chunk has more tokens than the longest run of so many texts.
    """
    if chunk_size is None or chunk_size >= len(lengths_B):
        embeddings_BD: Tensor = encoder(input_ids_T, lengths_B)
        return embeddings_BD
    lengths = torch.split(lengths_B, texts_a_chunk(lengths_B, chunk_size))
    ids = torch.split(input_ids_T, [int(chunk.sum()) for chunk in lengths])
    # Cast weights that chunks share would add up their gradients in the low precision.
    kind = input_ids_T.device.type
    autocast = torch.autocast(kind, enabled=torch.is_autocast_enabled(kind), cache_enabled=False)
    with autocast, encoder.word_gradients_together():
        return torch.cat(
            [
                checkpoint(encoder, *chunk, use_reentrant=False)
                for chunk in zip(ids, lengths, strict=True)
            ]
        )


def texts_a_chunk(lengths_B: Tensor, chunk_size: int) -> list[int]:
    """Fewer and fuller chunks than of ``chunk_size`` texts each, in the same memory."""
    limit = max(int(run.sum()) for run in torch.split(lengths_B, chunk_size))
    texts, tokens = [0], 0
    for length in lengths_B.tolist():
        if tokens + length > limit:
            texts.append(0)
            tokens = 0
        texts[-1] += 1
        tokens += length
    return texts
