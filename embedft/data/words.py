"""The words of a text, as two texts are compared: case, Unicode forms and punctuation aside."""

from __future__ import annotations

import re

from embedft.data.rows import normalize_text

# Scripts that put no blanks between words, where each sign counts as one: Thai, Lao, Burmese,
# Khmer, kana, Han.
_UNSPACED = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
)
_INDIC = r"\u0900-\u0dff"  # whose vowel signs are no letters to Python
_WORD = re.compile(rf"[{_UNSPACED}]|(?:[^\W{_UNSPACED}]|[{_INDIC}])+")


def words_of(text: str) -> list[str]:
    """The words of a text, normalised."""
    return _WORD.findall(normalize_text(text))


def longest_run(words: list[str], text: list[str]) -> int:
    """How many of some words, at most, stand in a text one after the other as they do here."""
    joined = f" {' '.join(text)} "
    longest = 0
    for start in range(len(words)):
        while (end := start + longest + 1) <= len(words):
            if f" {' '.join(words[start:end])} " not in joined:
                break
            longest += 1
    return longest
