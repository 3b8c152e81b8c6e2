from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from embedft.data.tokens import TokenStore, tabulate, tokenize

TEXTS = ["What swells?", "Silicon swells. " * 40, "naïve 日本 🔋", "x"]


@pytest.fixture
def tokenizer(tiny_model: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tiny_model)


def same(a: TokenStore, b: TokenStore) -> bool:
    return all(np.array_equal(getattr(a, n), getattr(b, n)) for n in ("ids", "offsets", "cut"))


def test_ids_are_the_tokenizers(tokenizer: PreTrainedTokenizerBase) -> None:
    store = tokenize(TEXTS, tokenizer, 12, None)
    for place, text in enumerate(TEXTS):
        ids = store.ids[store.offsets[place] : store.offsets[place + 1]]
        assert ids.tolist() == tokenizer(text, truncation=True, max_length=12)["input_ids"]
    assert store.cut.tolist() == [False, True, store.lengths[2] == 12 and store.cut[2], False]
    assert store.lengths.max() == 12


def test_pack(tokenizer: PreTrainedTokenizerBase) -> None:
    store = tokenize(TEXTS, tokenizer, 12, None)
    ids, lengths = store.pack(np.array([3, 1, 3]))
    expected = [tokenizer(TEXTS[i], truncation=True, max_length=12)["input_ids"] for i in (3, 1, 3)]
    assert ids.tolist() == sum(expected, [])
    assert lengths.tolist() == [len(row) for row in expected]


def test_cache_is_read_and_keyed_by_all_that_matters(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    first = tokenize(TEXTS, tokenizer, 12, tmp_path)
    assert same(first, tokenize(TEXTS, tokenizer, 12, tmp_path))
    assert len(os.listdir(tmp_path)) == 1
    fingerprints = {
        first.fingerprint,
        tokenize(TEXTS, tokenizer, 13, tmp_path).fingerprint,
        tokenize(TEXTS[::-1], tokenizer, 12, tmp_path).fingerprint,
        tokenize(["".join(TEXTS)], tokenizer, 12, tmp_path).fingerprint,
    }
    tokenizer.add_tokens(["swells"])
    fingerprints.add(tokenize(TEXTS, tokenizer, 12, tmp_path).fingerprint)
    assert len(fingerprints) == 5
    assert len(os.listdir(tmp_path)) == 5


@pytest.mark.parametrize("name", ["ids", "offsets", "cut"])
@pytest.mark.parametrize("keep", [0, 60, -1])
def test_damaged_cache_is_made_anew(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path, name: str, keep: int
) -> None:
    first = tokenize(TEXTS, tokenizer, 12, tmp_path)
    path = tmp_path / first.fingerprint / f"{name}.npy"
    path.write_bytes(path.read_bytes()[:keep])
    assert same(first, tokenize(TEXTS, tokenizer, 12, tmp_path))
    assert path.stat().st_size > 60


def test_a_cache_that_cannot_be_written_is_no_error(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    store = tokenize(TEXTS, tokenizer, 12, tmp_path / "file" / "cache")
    assert len(store.cut) == len(TEXTS)


def test_tabulate() -> None:
    texts, (questions, answers) = tabulate([["a", "b", "a"], ["b", "c", "c"]])
    assert texts == ["a", "b", "c"]
    assert questions.tolist() == [0, 1, 0]
    assert answers.tolist() == [1, 2, 2]
