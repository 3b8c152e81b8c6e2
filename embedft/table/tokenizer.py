"""Texts to the token ids of the base model's tokenizer, several times faster.

If a tokenizer cannot see across a blank (the BERT family), the ids of a text are those of its
words, and each word is tokenised once. All other tokenizers run on whole texts.
Imports neither torch nor transformers: worker processes start quickly.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from embedft.table.keys import Mask

_KNOWN_WORDS = 200_000  # words kept at most: about 60 MB
_LONG = 64  # characters above which a word is not kept: it hardly ever occurs again
_BATCH = 2_000  # texts or words per call: the tokenizer's objects are large


@dataclass(frozen=True, slots=True)
class TokenizedTexts:
    """The ids of texts.

    Attributes:
        ids: (total,) uint16 or int32, the ids of the texts one after the other.
        lengths: (texts,) int32, tokens a text.
        cut: (texts,) whether the text was longer than allowed.
    """

    ids: NDArray[np.generic]
    lengths: NDArray[np.int32]
    cut: Mask


class TextTokenizer:
    """A tokenizer with a length limit.

    Args:
        definition: The tokenizer as JSON, without truncation and padding.
        max_length: Maximum tokens per text, including special tokens.
        side: ``right`` or ``left``, the side on which longer texts are cut.
    """

    def __init__(self, definition: str, max_length: int, side: str) -> None:
        self._tokenizer = Tokenizer.from_str(definition)
        self._max_length, self._side = max_length, side
        largest = max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
        self.dtype = np.dtype(np.uint16 if largest < 2**16 else np.int32)
        self._by_word = side == "right" and sees_only_words(self._tokenizer)
        self._words: dict[str, bytes] = {}
        if self._by_word:
            self._first, self._last = self._special_tokens()
        else:
            self._tokenizer.enable_truncation(max_length, direction=side)

    def __call__(self, texts: list[str]) -> TokenizedTexts:
        """Tokenises texts and adds special tokens."""
        return self._join_words(texts) if self._by_word else self._encode(texts)

    def _encode(self, texts: list[str]) -> TokenizedTexts:
        lengths = np.zeros(len(texts), dtype=np.int32)
        cut = np.zeros(len(texts), dtype=np.bool_)
        parts = []
        for start in range(0, len(texts), _BATCH):
            encodings: list[Encoding] = self._tokenizer.encode_batch_fast(
                texts[start : start + _BATCH]
            )
            for index, encoding in enumerate(encodings, start):
                parts.append(self._bytes(encoding))
                lengths[index] = len(encoding.ids)
                cut[index] = bool(encoding.overflowing)
        return TokenizedTexts(np.frombuffer(b"".join(parts), dtype=self.dtype), lengths, cut)

    def _join_words(self, texts: list[str]) -> TokenizedTexts:
        known = self._words.__getitem__
        ids: list[bytes] = []
        with_new: list[int] = []  # texts with a new word
        new: set[str] = set()
        for index, text in enumerate(texts):
            words = text.split(" ")
            try:
                ids.append(b"".join(map(known, words)))
            except KeyError:
                ids.append(b"")
                with_new.append(index)
                new.update(words)
        self._learn(list(new.difference(self._words)))
        for index in with_new:
            ids[index] = b"".join(map(known, texts[index].split(" ")))
        width = self.dtype.itemsize
        special = len(self._first) + len(self._last)
        most = self._max_length * width - special
        sizes = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
        cut = sizes > most
        parts = [part for text in ids for part in (self._first, text[:most], self._last)]
        lengths = ((np.minimum(sizes, most) + special) // width).astype(np.int32)
        for word in new:
            if len(word) > _LONG:  # a whole text in a script without blanks
                self._words.pop(word, None)
        if len(self._words) > _KNOWN_WORDS:
            self._words.clear()
        return TokenizedTexts(np.frombuffer(b"".join(parts), dtype=self.dtype), lengths, cut)

    def _learn(self, words: list[str]) -> None:
        for start in range(0, len(words), _BATCH):
            batch = words[start : start + _BATCH]
            encodings = self._tokenizer.encode_batch_fast(batch, add_special_tokens=False)
            self._words.update(zip(batch, map(self._bytes, encodings), strict=True))

    def _bytes(self, encoding: Encoding) -> bytes:
        return array(self.dtype.char, encoding.ids).tobytes()

    def _special_tokens(self) -> tuple[bytes, bytes]:
        """The bytes of the ids before and after every text."""
        special = self._tokenizer.encode("")
        word = self._tokenizer.encode("a", add_special_tokens=False).ids
        before = self._tokenizer.encode("a").ids.index(word[0]) * self.dtype.itemsize
        ids = self._bytes(special)
        return ids[:before], ids[before:]


def sees_only_words(tokenizer: Tokenizer) -> bool:
    """Whether the ids of a text are those of its parts between blanks, one after the other.

    This is true for the BERT family. Its normaliser looks at single characters, and a blank ends
    every run of combining marks. Its pre-tokenizer drops blanks. Its model looks at single words.
    """
    return (
        isinstance(tokenizer.normalizer, BertNormalizer)
        and isinstance(tokenizer.pre_tokenizer, BertPreTokenizer)
        and isinstance(tokenizer.model, WordPiece)
        and not any(" " in token.content for token in tokenizer.get_added_tokens_decoder().values())
    )
