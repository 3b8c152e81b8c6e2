"""GradCache: a batch of any size, with the memory of a few texts.

Gao et al., 2021, arXiv:2101.06983, as recomputation inside autograd: each chunk of texts is
embedded without keeping its activations, and embedded again when its gradient is computed. Dropout
draws the same masks again.

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
    """(B, D) embeddings of packed texts, computed a chunk at a time.

    Args:
        encoder: Packed ids and lengths in, embeddings out.
        input_ids_T: (T,) int64.
        lengths_B: (B,) int64 on the CPU, tokens of each text.
        chunk_size: Texts of a chunk, at least 1; None embeds all at once. No chunk needs more
            memory than any ``chunk_size`` texts that follow each other in the batch.
    """
    if chunk_size is None or chunk_size >= len(lengths_B):
        embeddings_BD: Tensor = encoder(input_ids_T, lengths_B)
        return embeddings_BD
    # Texts of similar length share a chunk: few attention blocks, and little padding.
    layout = PackedLayout.from_lengths(lengths_B, input_ids_T.device)
    lengths = torch.split(layout.lengths, texts_per_chunk(lengths_B, chunk_size))
    ids = torch.split(input_ids_T[layout.token_index], [int(chunk.sum()) for chunk in lengths])
    *others, last = zip(ids, lengths, strict=True)
    # Without the cache each chunk casts the weights itself: their gradients add up in float32.
    kind = input_ids_T.device.type
    autocast = torch.autocast(kind, enabled=torch.is_autocast_enabled(kind), cache_enabled=False)
    with autocast, encoder.shared_token_gradient():
        embedded = [checkpoint(encoder, *chunk, use_reentrant=False) for chunk in others]
        embedded.append(encoder(*last))  # keeps its activations: its gradient is computed first
    return torch.cat(embedded)[layout.index_of_text]


_TOKEN_MEMORY = 256
"""Memory of a token, in attention scores per head: at least 11 times the size of a head."""


def texts_per_chunk(lengths_B: Tensor, chunk_size: int) -> list[int]:
    """The number of texts in each chunk; the first chunks have the longest texts.

    No chunk needs more memory than any ``chunk_size`` texts that follow each other in the batch.
    """
    memory_B = lengths_B * (_TOKEN_MEMORY + lengths_B)
    limit = max(int(chunk.sum()) for chunk in torch.split(memory_B, chunk_size))
    texts, used = [0], 0
    for memory in memory_B.sort().values.tolist():  # ascending, so that the last chunks are full
        if used + memory > limit:
            texts.append(0)
            used = 0
        texts[-1] += 1
        used += memory
    return texts[::-1]
