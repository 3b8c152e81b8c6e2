"""Ids equal those of transformers' own call, text by text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from tiny import MULTILINGUAL, sample_rows
from tokenizers import AddedToken, Tokenizer, pre_tokenizers
from transformers import AutoTokenizer

from embedft.encoder.base_model import find_base_model
from embedft.table import tokenizer
from embedft.table.tokenizer import TextTokenizer, sees_only_words

STRANGE = [
    "",
    " ",
    "  two  blanks ",
    "tab\tand\nline\r\nand\u2028and\u00a0and\u3000end",
    "a\x00b\x1cc\x85d\u200be\ufefff",
    "e\u0301 \u0301e  \u0301 \u0345Σ ΣΑΣ İ ß ﬁ",
    "[MASK] x[SEP]y [CLS][PAD]",
    "日本語 と 한국어 🔋👩\u200d👩\u200d👧",
    "word" * 60 + " " + "x" * 99 + " " + "x" * 101,
    "don't (stop)! 3.5% α-Fe2O3/TiO2",
    "long " * 300,
]
TEXTS = STRANGE + [
    row[name]
    for path in (tiny.SAMPLE, MULTILINGUAL)
    for row in sample_rows(path)
    for name in ("question", "answer")
]


def definition(tokenizer: Any) -> str:
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    text: str = tokenizer.backend_tokenizer.to_str()
    return text


def check(tokenizer: Any, texts: list[str], length: int) -> TextTokenizer:
    ours = TextTokenizer(definition(tokenizer), length, tokenizer.truncation_side)
    whole = [len(ids) for ids in tokenizer(texts, verbose=False)["input_ids"]]
    expected = tokenizer(texts, truncation=True, max_length=length)["input_ids"]
    for _ in range(2):  # new words, known words
        found = ours(texts)
        ends = np.cumsum(found.lengths)
        rows = [part.tolist() for part in np.split(found.ids, ends[:-1])]
        assert rows == expected
        assert found.cut.tolist() == [size > length for size in whole]
    return ours


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("families")
    folders = {name: tiny.build_plain(root / name, name) for name in ("bert", "mpnet")}
    return folders | {"MiniLM": find_base_model(tiny.MINILM).folder}


@pytest.mark.parametrize("name", ["bert", "mpnet", "MiniLM"])
@pytest.mark.parametrize("length", [3, 12, 512])
def test_by_words(folders: dict[str, Path], name: str, length: int) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folders[name])
    assert sees_only_words(tokenizer.backend_tokenizer)
    assert check(tokenizer, TEXTS, length).dtype == np.uint16


def test_by_words_of_any_text(folders: dict[str, Path]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folders["MiniLM"])
    plain = AutoTokenizer.from_pretrained(folders["MiniLM"])
    ours = TextTokenizer(definition(tokenizer), 64, "right")

    @given(st.text(st.characters(exclude_categories=["Cs"])))
    def same(text: str) -> None:
        assert ours([text]).ids.tolist() == plain(text, truncation=True, max_length=64)["input_ids"]

    same()


@pytest.mark.parametrize("change", ["side", "blank in a token", "metaspace"])
def test_what_may_see_more_than_words_goes_text_by_text(
    folders: dict[str, Path], change: str
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folders["bert"])
    if change == "side":
        tokenizer.truncation_side = "left"
    elif change == "blank in a token":
        tokenizer.add_tokens([AddedToken("silicon anode")])
    else:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    assert sees_only_words(tokenizer.backend_tokenizer) is (change == "side")
    check(tokenizer, ["The silicon anode swells. ", *TEXTS], 12)


def test_words_are_forgotten_when_there_are_too_many(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer, "_KNOWN_WORDS", 50)
    check(AutoTokenizer.from_pretrained(folders["bert"]), TEXTS, 12)


def test_large_vocabularies_have_wider_ids(folders: dict[str, Path]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folders["bert"])
    words = [f"w{number}" for number in range(66_000)]
    backend: Tokenizer = tokenizer.backend_tokenizer
    backend.add_tokens(words)
    ours = TextTokenizer(definition(tokenizer), 12, "right")
    assert ours.dtype == np.int32
    token = backend.token_to_id("w65999")
    assert token is not None
    assert token > 65_536
    assert ours(["w65999"]).ids[1] == token


def test_no_texts(folders: dict[str, Path]) -> None:
    for side in ("right", "left"):
        tokenizer = AutoTokenizer.from_pretrained(folders["bert"])
        assert len(TextTokenizer(definition(tokenizer), 12, side)([]).ids) == 0
