"""Each distinct text tokenised once: flat ids and offsets, cached on disk by fingerprint."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)

_BLOCK = 20_000  # texts a call to the tokenizer: bounds memory


@dataclass(frozen=True, slots=True)
class TokenStore:
    """The token ids of a table of texts.

    Attributes:
        ids: (total,) int32, the ids of all texts one after the other, special tokens included.
        offsets: (texts + 1,) int64, text i lies at ``ids[offsets[i]:offsets[i + 1]]``.
        cut: (texts,) bool, the text was longer than ``max_seq_length``.
        fingerprint: Hash of the texts, the tokenizer and ``max_seq_length``.
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    cut: NDArray[np.bool_]
    fingerprint: str

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(texts,) int64, tokens a text."""
        return np.diff(self.offsets)

    def pack(self, texts: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """The packed form of some texts: ids (T,) int64 and lengths (texts,) int64."""
        starts, ends = self.offsets[texts], self.offsets[texts + 1]
        flat = np.concatenate(
            [self.ids[start:end] for start, end in zip(starts, ends, strict=True)]
        )
        return torch.from_numpy(flat.astype(np.int64)), torch.from_numpy(ends - starts)


def tabulate(columns: Iterable[Iterable[str]]) -> tuple[list[str], list[NDArray[np.int64]]]:
    """Distinct texts of all columns in order of appearance, and each column as indices."""
    index: dict[str, int] = {}
    tables = [
        np.array([index.setdefault(text, len(index)) for text in column], dtype=np.int64)
        for column in columns
    ]
    return list(index), tables


def tokenize(
    texts: list[str],
    tokenizer: PreTrainedTokenizerBase,
    max_seq_length: int,
    cache_dir: Path | None,
) -> TokenStore:
    """Tokenises texts, or reads them from the cache where the same was done before.

    Args:
        texts: Distinct texts, prompts included.
        tokenizer: A fast tokenizer.
        max_seq_length: Tokens a text at most, special tokens included.
        cache_dir: Folder of the cache; None keeps nothing on disk.
    """
    fingerprint = _fingerprint(texts, tokenizer, max_seq_length)
    folder = None if cache_dir is None else cache_dir / fingerprint
    if folder is not None and (store := _read(folder, len(texts), fingerprint)) is not None:
        log.info("tokens: %d texts from the cache %s", len(texts), folder)
        return store
    ids: list[NDArray[np.int32]] = []
    lengths = np.zeros(len(texts), dtype=np.int64)
    cut = np.zeros(len(texts), dtype=np.bool_)
    for start in range(0, len(texts), _BLOCK):
        batch = tokenizer(
            texts[start : start + _BLOCK],
            truncation=True,
            max_length=max_seq_length,
            padding=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        for row, encoding in enumerate(batch.encodings or [], start):
            ids.append(np.asarray(encoding.ids, dtype=np.int32))
            lengths[row] = len(encoding.ids)
            cut[row] = bool(encoding.overflowing)
    store = TokenStore(
        ids=np.concatenate(ids),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        cut=cut,
        fingerprint=fingerprint,
    )
    if folder is not None:
        _write(folder, store)
    log.info("tokens: %d texts, %d tokens", len(texts), len(store.ids))
    return store


def _fingerprint(texts: list[str], tokenizer: PreTrainedTokenizerBase, max_seq_length: int) -> str:
    digest = hashlib.blake2b(digest_size=16)
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()  # settings of an earlier call are not part of the tokenizer
    backend.no_padding()
    digest.update(f"{max_seq_length} {len(texts)} ".encode())
    digest.update(backend.to_str().encode())
    for text in texts:
        data = text.encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def _read(folder: Path, texts: int, fingerprint: str) -> TokenStore | None:
    """The store in the folder, memory-mapped; None if it is absent or damaged."""
    try:
        ids = np.load(folder / "ids.npy", mmap_mode="r")
        offsets = np.load(folder / "offsets.npy")
        cut = np.load(folder / "cut.npy")
    except (OSError, ValueError, EOFError):
        return None
    if len(offsets) != texts + 1 or len(cut) != texts or offsets[-1] != len(ids):
        return None
    return TokenStore(ids, offsets, cut, fingerprint)


def _write(folder: Path, store: TokenStore) -> None:
    """Writes beside the final name, then renames; a cache that can't be written is no error."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".writing-"))
        for name in ("ids", "offsets", "cut"):
            np.save(staging / f"{name}.npy", getattr(store, name))
        shutil.rmtree(folder, ignore_errors=True)  # a damaged earlier one
        os.replace(staging, folder)
    except OSError as error:
        log.warning("tokens: the cache %s can't be written (%s); going on without", folder, error)
