"""How a file is read, and where its tokenised texts are cached."""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal


def default_cache_dir() -> Path:
    """The folder of tokenised texts, unless another one is given."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "embedft" / "tokens"


FORMAT = 3
"""Version of what is cached on disk; part of the fingerprint that checkpoints keep."""

Target = Literal["answer", "context", "both"]


@dataclass(frozen=True, slots=True)
class ReadSettings:
    """Everything except the file that decides what its rows and tokens are.

    The names of the fields are part of the fingerprint that checkpoints keep.

    Attributes:
        tokenizer: The tokenizer as JSON, without truncation and padding.
        max_seq_length: Maximum tokens per text, including special tokens.
        truncation_side: ``right`` or ``left``, the side on which longer texts are cut.
        query_prompt: Text before each question.
        document_prompt: Text before each answer or context.
        lower_case: Lower-case texts before the tokenizer.
        documents: What is tokenised in addition to the question: answer, context, or both.
        context_required: A row without a context is a bad row.
        negatives: Also tokenise the negatives of the rows.
    """

    tokenizer: str
    max_seq_length: int
    truncation_side: str = "right"
    query_prompt: str = ""
    document_prompt: str = ""
    lower_case: bool = False
    documents: Target = "answer"
    context_required: bool = False
    negatives: bool = False

    def digest(self) -> str:
        """Equal for equal settings."""
        settings = repr([FORMAT, *asdict(self).items()])
        return hashlib.blake2b(settings.encode(), digest_size=12).hexdigest()
