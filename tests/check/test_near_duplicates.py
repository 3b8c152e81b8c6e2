from __future__ import annotations

import random

import numpy as np
from tiny import sample_rows

from embedft.check.near_duplicates import MIN_SIMILARITY, MinHasher, near_duplicates
from embedft.check.text_measures import split_words


def similarity(first: list[str], second: list[str]) -> float:
    """Jaccard similarity of the pairs of neighbouring words, the end of the text included."""
    one, two = (set(zip(words, [*words[1:], ""], strict=True)) for words in (first, second))
    return len(one & two) / len(one | two)


def changed(words: list[str], rng: random.Random) -> list[str]:
    """Words with a few or many of them replaced."""
    share = rng.choice([0.02, 0.06, 0.2])
    return [word if rng.random() > share else f"{word}x" for word in words]


def test_as_all_pairs_compared() -> None:
    """What is clearly alike is found, what is clearly not is not."""
    rng = random.Random(0)
    texts = [split_words(row["context"]) for row in sample_rows()[:150]]
    texts += [changed(text, rng) for text in texts]
    hasher = MinHasher()
    for text in texts:
        hasher.add(text)
    found = near_duplicates(hasher.signatures())
    assert found.tolist() == [int(np.flatnonzero(found == code)[0]) for code in found]
    clear = 0
    for copy in range(150, 300):
        likeness = similarity(texts[copy - 150], texts[copy])
        if abs(likeness - MIN_SIMILARITY) > 0.12:
            clear += 1
            assert (found[copy] == found[copy - 150]) == (likeness > MIN_SIMILARITY), likeness
    assert clear > 50
    assert len(set(found[:150].tolist())) == 150


def test_texts_without_words_or_none_at_all() -> None:
    assert len(near_duplicates(MinHasher().signatures())) == 0
    hasher = MinHasher()
    for text in ("?", "!", "a"):
        hasher.add(split_words(text))
    assert near_duplicates(hasher.signatures()).tolist() == [0, 0, 2]
