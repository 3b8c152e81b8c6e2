"""From files to what a fit, an evaluation or a prediction needs of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedft.table.settings import Positive, ReadSettings

if TYPE_CHECKING:
    from embedft.encoder.encoder import Encoder


def read_settings(
    encoder: Encoder, documents: Positive, *, context_required: bool, negatives: bool = False
) -> ReadSettings:
    """How a file is read for an encoder: with its tokenizer, length limit and prompts."""
    backend = encoder.tokenizer.backend_tokenizer
    backend.no_truncation()  # settings of an earlier call are not part of the tokenizer
    backend.no_padding()
    return ReadSettings(
        tokenizer=backend.to_str(),
        max_seq_length=encoder.max_seq_length,
        truncation_side=encoder.tokenizer.truncation_side,
        query_prompt=encoder.query_text(""),
        document_prompt=encoder.document_text(""),
        lower_case=encoder.base.do_lower_case,
        documents=documents,
        context_required=context_required,
        negatives=negatives,
    )
