"""MPNet over packed texts: its attention has a relative position bias and no attention interface.

Shape suffixes: T tokens, H heads, L length of the longest text.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from embedft.encoder.attention import packed_attention
from embedft.encoder.dropout import DropoutMasks
from embedft.encoder.packing import PackedLayout


def packed_mpnet(
    backbone: Any, input_ids_1T: Tensor, layout: PackedLayout, masks: DropoutMasks
) -> Tensor:
    """The last hidden state of transformers' ``MPNetModel``, (1, T, hidden size).

    Args:
        backbone: The model; its own layers compute everything but the attention.
        input_ids_1T: (1, T) ids, in the order of the layout.
        layout: Where texts begin and end.
        masks: Draws the masks of the attention's dropout.
    """
    positions_1T = (layout.position_ids + backbone.embeddings.padding_idx + 1).unsqueeze(0)
    hidden = backbone.embeddings(input_ids=input_ids_1T, position_ids=positions_1T)
    longest = layout.blocks[0].length
    bias_HLL = backbone.encoder.compute_position_bias(hidden[:, :longest])[0]
    for layer in backbone.encoder.layer:
        attention = layer.attention.attn
        size = attention.attention_head_size
        query_THE, key_THE, value_THE = (
            project(hidden).squeeze(0).unflatten(-1, (-1, size))
            for project in (attention.q, attention.k, attention.v)
        )
        context = packed_attention(
            query_THE,
            key_THE,
            value_THE,
            layout,
            scale=size**-0.5,
            dropout=attention.dropout.p if attention.training else 0.0,
            masks=masks,
            bias_HLL=bias_HLL,
        )
        projected = attention.o(context.flatten(1).unsqueeze(0))
        hidden = layer.attention.LayerNorm(layer.attention.dropout(projected) + hidden)
        hidden = layer.output(layer.intermediate(hidden), hidden)
    return hidden  # type: ignore[no-any-return]
