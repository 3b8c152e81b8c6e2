"""Near-duplicate texts, found by MinHash and locality-sensitive hashing.

A text is the set of its word bigrams. Two texts are near-duplicates if the Jaccard similarity of
their sets is at least ``MIN_SIMILARITY``. It is estimated by the share of equal entries of their
MinHash signatures (Broder, 1997, doi:10.1109/SEQUEN.1997.666900), with a standard error of 0.04.
Only texts that agree in a whole band of entries are compared (Leskovec, Rajaraman and Ullman,
Mining of Massive Datasets, 3.4), which misses almost none. Known libraries hash word by word in
Python, or are compiled for each version of Python.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from embedft.table.keys import Hashes, Ints, combine_hashes, connected, first_equal

MIN_SIMILARITY = 0.8
_HASHES = 128
_BAND = 4
_BLOCK = 200_000  # words hashed at a time

Signatures = NDArray[np.uint32]


class MinHasher:
    """Computes the MinHash signatures of texts, one text after the other."""

    def __init__(self) -> None:
        self._word_hashes = _WordHashes()
        self._words: list[int] = []
        self._counts: list[int] = []
        self._blocks: list[Signatures] = []
        rng = np.random.default_rng(0)
        self._factors = rng.integers(2**63, size=_HASHES, dtype=np.uint64) | np.uint64(1)

    def add(self, words: list[str]) -> None:
        """Adds a text by its words; all texts without words are equal."""
        self._words += map(self._word_hashes.__getitem__, words or [""])
        self._counts.append(len(words) or 1)
        if len(self._words) > _BLOCK:
            self._sign()

    def signatures(self) -> Signatures:
        """(texts, hashes) of all texts in the order they were added."""
        self._sign()
        return np.concatenate([np.empty((0, _HASHES), dtype=np.uint32), *self._blocks])

    def _sign(self) -> None:
        if not self._counts:
            return
        words: Hashes = np.array(self._words, dtype=np.uint64)
        counts = np.array(self._counts)
        ends = np.cumsum(counts)
        following = np.append(words[1:], np.uint64(0))
        following[ends - 1] = 0  # the last word of a text is paired with its end
        pairs = combine_hashes(words, following)
        starts = ends - counts
        # Multiply-shift hashing (Dietzfelbinger et al., 1997) of well-mixed hashes.
        columns = [
            np.minimum.reduceat((pairs * factor) >> np.uint64(32), starts)
            for factor in self._factors
        ]
        self._blocks.append(np.stack(columns, axis=1).astype(np.uint32))
        self._words, self._counts = [], []


class _WordHashes(dict[str, int]):
    """64-bit hashes of words, each computed once."""

    def __missing__(self, word: str) -> int:
        digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
        hashed = self[word] = int.from_bytes(digest, "little")
        return hashed


def near_duplicates(signatures: Signatures) -> Ints:
    """(texts,) for each text the first of its near-duplicates; itself if it has none."""
    texts = np.arange(len(signatures))
    ties = [texts]
    for start in range(0, _HASHES, _BAND):
        band = signatures[:, start : start + _BAND]
        first = first_equal(combine_hashes(*band.T.astype(np.uint64)))
        others = np.flatnonzero(first != texts)
        near = (signatures[others] == signatures[first[others]]).mean(axis=1) >= MIN_SIMILARITY
        tied = texts.copy()
        tied[others[near]] = first[others[near]]
        ties.append(tied)
    return connected(*ties)
