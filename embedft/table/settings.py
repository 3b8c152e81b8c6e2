"""How a file is read for an encoder, and where its tokenised texts are kept."""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

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


FORMAT = 3
"""Version of what is cached on disk."""


Positive = Literal["answer", "context", "both"]


@dataclass(frozen=True, slots=True)
class ReadSettings:
    """All that decides, beside the file, what its rows and tokens are.

    Attributes:
        tokenizer: The tokenizer as JSON, without truncation and padding.
        max_seq_length: Tokens a text at most, special tokens included.
        truncation_side: ``right`` or ``left``, where longer texts are cut.
        query_prompt: What stands before a question.
        document_prompt: What stands before an answer or a context.
        lower_case: Texts are lower-cased before the tokenizer.
        documents: Which of answer and context is tokenised beside the question.
        context_required: A row without a context is a bad row.
        negatives: The rows' negatives are tokenised, too.
    """

    tokenizer: str
    max_seq_length: int
    truncation_side: str = "right"
    query_prompt: str = ""
    document_prompt: str = ""
    lower_case: bool = False
    documents: Positive = "answer"
    context_required: bool = False
    negatives: bool = False

    def digest(self) -> str:
        """Equal for equal settings."""
        settings = repr([FORMAT, *asdict(self).items()])
        return hashlib.blake2b(settings.encode(), digest_size=12).hexdigest()
