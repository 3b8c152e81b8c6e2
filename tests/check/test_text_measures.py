from __future__ import annotations

import random
from pathlib import Path

import pytest
from check_output import Capture, Flags, check_output, row_of
from tiny import sample_rows, write_jsonl

from embedft.check.text_measures import longest_run, split_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("What's the pH of H2O?", ["what", "s", "the", "ph", "of", "h2o"]),
        ("ＡＢＣ Straße", ["abc", "strasse"]),
        ("abc漢字かな", ["abc", "漢", "字", "か", "な"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("뇌는 무엇", ["뇌는", "무엇"]),
        ("?!", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert split_words(text) == words


def test_longest_run_as_all_runs_tried() -> None:
    rng = random.Random(0)
    for _ in range(300):
        words = rng.choices("ab", k=rng.randrange(8))
        text = rng.choices("ab", k=rng.randrange(12))
        runs = [
            end - start
            for start in range(len(words) + 1)
            for end in range(start, len(words) + 1)
            if any(text[i : i + end - start] == words[start:end] for i in range(len(text) + 1))
        ]
        assert longest_run(words, text) == max(runs)
    assert longest_run(["ab"], ["abc"]) == 0


@pytest.mark.parametrize("script", ["zh", "hi", "th"])
def test_scripts_without_spaces(script: str, tmp_path: Path, small: Flags, capsys: Capture) -> None:
    """A question that its answer repeats is found also if no spaces separate the words."""
    question = {
        "zh": "硅负极为什么会损失容量",
        "hi": "सिलिकॉन एनोड की क्षमता क्यों घटती है",
        "th": "ทำไมขั้วบวกซิลิคอนจึงสูญเสียความจุ",
    }[script]
    rows = sample_rows()[:20]
    rows[4] |= {"question": f"{question}?", "answer": f"{question}, 100%."}
    pairs = write_jsonl(tmp_path / "pairs.jsonl", rows)
    text = check_output([str(pairs), *small], capsys)
    assert row_of(text, "questions copied from the answer") == ["1", "5.0%", "5"]
    assert f"{script} 5.0%" in text
