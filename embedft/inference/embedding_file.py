"""Embeddings on disk, filled batch by batch: a run that was stopped goes on where it was."""

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
from embedft.tools.files import write_json

_NOT_THE_MODEL = {"_name_or_path", "transformers_version", "dtype", "torch_dtype"}


class EmbeddingFile:
    """Embeddings in a hidden folder beside the file that they are for.

    Args:
        target: The file that they are for.
        tokens: The texts' ids.
        texts: (texts,) which of them, ascending.
        encoder: Embeds; another model or other texts make another file.
        trainer: Gives device and precision; another precision makes another file.
    """

    def __init__(
        self, target: Path, tokens: TokenStore, texts: Ints, encoder: Encoder, trainer: Trainer
    ) -> None:
        self.tokens, self.texts = tokens, texts
        self.encoder, self.trainer = encoder, trainer
        self.folder = target.with_name(f".{target.name}.embeddings")
        shape = len(texts), encoder.embedding_dim
        made_of = {
            **embedding_fingerprint(tokens, encoder, trainer),
            "texts": hashlib.sha256(texts.tobytes()).hexdigest(),
            "shape": list(shape),
        }
        settings = self.folder / "made_of.json"
        begun = settings.is_file() and json.loads(settings.read_text("utf-8")) == made_of
        if not begun:
            self.remove()
            self.folder.mkdir(parents=True)
        mode: Any = "r+" if begun else "w+"
        self.table = np.memmap(self.folder / "embeddings.bin", np.float32, mode, shape=shape)
        self.done = np.memmap(self.folder / "done.bin", np.bool_, mode, shape=shape[:1])
        if not begun:
            write_json(settings, made_of)

    @property
    def missing(self) -> Ints:
        """The texts that are not embedded yet."""
        return np.asarray(self.texts[~self.done])

    def fill(self, batch_size: int, description: str) -> None:
        """Embeds what is missing.

        Args:
            batch_size: Texts at a time.
            description: Of the progress bar.
        """
        batches = TextBatches(self.tokens, self.missing, batch_size)
        embed_texts(self.encoder, batches, self.trainer, self.put, description)

    def put(self, texts: Ints, embeddings: NDArray[np.float32]) -> None:
        """Notes some embeddings; the mark that they are there comes after them."""
        places = np.searchsorted(self.texts, texts)
        self.table[places] = embeddings
        self.done[places] = True

    def lookup(self, texts: Ints) -> NDArray[np.float32]:
        """(texts, D) a copy of the embeddings of some texts."""
        return np.asarray(self.table[np.searchsorted(self.texts, texts)])

    def remove(self) -> None:
        """Deletes the files."""
        if self.folder.exists():
            shutil.rmtree(self.folder)


def embedding_fingerprint(tokens: TokenStore, encoder: Encoder, trainer: Trainer) -> dict[str, str]:
    """What decides the embeddings of some texts: equal where and only where they are."""
    return {
        "data": tokens.fingerprint,
        "model": _digest(encoder),
        "precision": str(trainer.precision),
    }


def _digest(encoder: Encoder) -> str:
    """Of the architecture, its settings and the weights by name."""
    config = {
        key: value
        for key, value in encoder.base.config.to_dict().items()
        if key not in _NOT_THE_MODEL
    }
    settings = [config, encoder.pooling, encoder.normalize]
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, weight in sorted(encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().float().cpu().contiguous().numpy().data)
    return digest.hexdigest()[:24]
