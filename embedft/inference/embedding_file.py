"""Embeddings on disk, filled batch by batch, so that an interrupted embedding can resume."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Trainer
from numpy.typing import NDArray

from embedft.data.batches import TextBatches
from embedft.encoder.encoder import Encoder
from embedft.inference.embed import embed_texts
from embedft.table.keys import Ints
from embedft.table.tokens import TokenStore
from embedft.tools.files import reserve, write_json

_BLOCK = 1 << 16  # embeddings that are checked at a time

# Keys of a config that do not change a model's embeddings.
_IGNORED_CONFIG = {"_name_or_path", "transformers_version", "dtype", "torch_dtype"}


class EmbeddingFile:
    """Embeddings in a hidden folder beside the file that they are computed for.

    A folder of another model, other texts or another precision is replaced.

    Args:
        target: The file that the embeddings are computed for.
        tokens: The tokens of all texts.
        texts: (texts,) ids of the texts to embed, ascending.
        encoder: Computes the embeddings.
        trainer: Gives device and precision.
    """

    def __init__(
        self, target: Path, tokens: TokenStore, texts: Ints, encoder: Encoder, trainer: Trainer
    ) -> None:
        self.tokens, self.texts = tokens, texts
        self.encoder, self.trainer = encoder, trainer
        self.folder = target.with_name(f".{target.name}.embeddings")
        shape = len(texts), encoder.embedding_dim
        fingerprint = {
            **embedding_fingerprint(tokens, encoder, trainer),
            "texts": hashlib.sha256(texts.tobytes()).hexdigest(),
            "shape": list(shape),
        }
        fingerprint_file = self.folder / "made_of.json"
        sizes = {self.folder / "embeddings.bin": 4 * shape[0] * shape[1]}
        sizes[self.folder / "done.bin"] = 4 * shape[0]
        resumes = _is_made_of(fingerprint_file, fingerprint) and all(
            path.is_file() and path.stat().st_size == size for path, size in sizes.items()
        )
        if not resumes:
            self.remove()
            self.folder.mkdir(parents=True)
            for path, size in sizes.items():
                reserve(path, size)
        embeddings, done = sizes
        self.table = np.memmap(embeddings, np.float32, "r+", shape=shape)
        self._sums = np.memmap(done, np.uint32, "r+", shape=shape[:1])
        self.done = np.zeros(len(texts), dtype=np.bool_)
        if resumes:
            for start in range(0, len(texts), _BLOCK):
                block = slice(start, start + _BLOCK)
                self.done[block] = self._sums[block] == _sums(self.table[block])
        else:
            write_json(fingerprint_file, fingerprint)

    @property
    def missing(self) -> Ints:
        """Ids of the texts that are not embedded yet."""
        return np.asarray(self.texts[~self.done])

    def fill(self, batch_size: int, description: str) -> None:
        """Embeds the missing texts.

        Args:
            batch_size: Texts per batch.
            description: Label of the progress bar.

        Raises:
            InputError: An embedding is NaN or infinite.
        """
        batches = TextBatches(self.tokens, self.missing, batch_size)
        embed_texts(self.encoder, batches, self.trainer, self.put, description)

    def put(self, texts: Ints, embeddings: NDArray[np.float32]) -> None:
        """Writes the embeddings of a batch, and only then marks its texts as done."""
        index = np.searchsorted(self.texts, texts)
        self.table[index] = embeddings
        self._sums[index] = _sums(embeddings)
        self.done[index] = True

    def lookup(self, texts: Ints) -> NDArray[np.float32]:
        """(texts, D) a copy of the embeddings of these texts."""
        return np.asarray(self.table[np.searchsorted(self.texts, texts)])

    def remove(self) -> None:
        """Deletes the folder."""
        if self.folder.exists():
            shutil.rmtree(self.folder)


def _is_made_of(path: Path, fingerprint: dict[str, Any]) -> bool:
    try:
        return bool(json.loads(path.read_text("utf-8")) == fingerprint)
    except (OSError, ValueError, RecursionError):  # missing or damaged
        return False


def _sums(embeddings: NDArray[np.float32]) -> NDArray[np.uint32]:
    """(texts,) a checksum of each embedding, never 0: a page that was not written has zeros."""
    words = np.ascontiguousarray(embeddings, np.float32).view(np.uint32)
    sums: NDArray[np.uint32] = words.sum(axis=1, dtype=np.uint32) | np.uint32(1 << 31)
    return sums


def embedding_fingerprint(tokens: TokenStore, encoder: Encoder, trainer: Trainer) -> dict[str, str]:
    """Identifies embeddings: equal for the same texts, model and precision."""
    return {
        "data": tokens.fingerprint,
        "model": _model_digest(encoder),
        "precision": str(trainer.precision),
    }


def _model_digest(encoder: Encoder) -> str:
    """A hash of the architecture, its settings, and the weights by name."""
    config = {
        key: value
        for key, value in encoder.base.config.to_dict().items()
        if key not in _IGNORED_CONFIG
    }
    settings = [config, encoder.pooling, encoder.normalize, *encoder.head.settings]
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, weight in sorted(encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().float().cpu().contiguous().numpy().data)
    return digest.hexdigest()[:24]
