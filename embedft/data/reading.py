"""How a file is read for an encoder, and where its tokenised texts are kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from embedft.data.blocks import Positive, ReadSettings

if TYPE_CHECKING:
    from embedft.encoder.encoder import Encoder


def read_settings(
    encoder: Encoder, documents: Positive, *, context_required: bool, negatives: bool = False
) -> ReadSettings:
    """How a file is read for an encoder: its tokenizer, length limit and prompts."""
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


def default_cache_dir() -> Path:
    """Where tokenised texts are kept unless told otherwise."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "embedft" / "tokens"
