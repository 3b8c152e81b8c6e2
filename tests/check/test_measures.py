from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from check_output import Capture, Flags, advice_lines, check_output, odd_rows, row_of
from tiny import MULTILINGUAL, sample_rows, write_jsonl
from transformers import AutoTokenizer

from embedft.check.measures import DataIssue, measure_data
from embedft.data.load import read_settings
from embedft.training.module import EmbeddingModule


def test_each_kind_of_issue_is_counted(tmp_path: Path, small: Flags, capsys: Capture) -> None:
    pairs = write_jsonl(tmp_path / "pairs.jsonl", odd_rows())
    text = check_output([str(pairs), *small], capsys)
    assert f"{pairs}: 26 rows, 0 bad, 25 used" in text
    expected = {
        "exact duplicates, dropped": ["1", "3.8%", "1 and 21"],
        "repeated questions": ["1", "4.0%", "2 and 22"],
        "repeated answers": ["1", "4.0%", "2 and 22"],
        "near-duplicate questions": ["1", "4.2%", "3 and 23"],
        "near-duplicate answers": ["1", "4.2%", "8 and 24"],
        "questions with several answers": ["0", "0.0%", ""],
        "questions that several files answer": ["1", "4.2%", "2 and 22"],
        "questions copied from the answer": ["1", "4.0%", "25"],
        "rows without a file_name": ["3", "12.0%", "24"],
    }
    assert {name: row_of(text, name) for name in expected} == expected
    assert "files: 5, with 1 to 6 pairs each, median 5" in text
    assert "languages: en 96.2%, de 3.8%; unknown tokens " in text


def test_several_answers(tmp_path: Path, small: Flags, capsys: Capture) -> None:
    """One question, twice with the same answer and twice with other answers."""
    rows = sample_rows()[:20]
    for index, answer in ((5, rows[0]["answer"]), (10, "One."), (15, "Two.")):
        rows[index] |= {"question": rows[0]["question"], "answer": answer}
    pairs = write_jsonl(tmp_path / "pairs.jsonl", rows)
    text = check_output([str(pairs), *small], capsys)
    assert row_of(text, "shared questions")[0].startswith(
        f'the question "{rows[0]["question"][:40]}'
    )
    assert row_of(text, "held out")[0].startswith("5 rows, 1 of them not evaluated: 4 questions")
    rows += sample_rows()[20:40]
    text = check_output([str(write_jsonl(pairs, rows)), *small], capsys)
    assert row_of(text, "questions with several answers") == ["1", "2.7%", "1 and 11"]
    assert row_of(text, "questions that several files answer") == ["1", "2.7%", "1 and 6"]
    assert "the largest has 50.0% of the rows" in text
    assert any("one group holds 50% of the rows" in line for line in advice_lines(text))


def test_lengths_are_the_tokenizers(tiny_model: Path, tmp_path: Path) -> None:
    rows = [*sample_rows()[:40], *sample_rows(MULTILINGUAL)]
    rows[3]["answer"] = rows[4]["answer"] = "long " * 3000
    rows[5]["context"] = ""
    pairs = write_jsonl(tmp_path / "pairs.jsonl", rows)
    module = EmbeddingModule(str(tiny_model))
    settings = read_settings(module.encoder, "answer", context_required=False)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    data = measure_data(str(pairs), "answer", settings, tokenizer.unk_token_id)
    texts = {
        "questions": [row["question"] for row in rows],
        "answers": [row["answer"] for row in rows],
        "contexts": [row["context"] for row in rows if row.get("context")],
    }
    for name, some in texts.items():
        ids = tokenizer(sorted(set(some)), truncation=False, verbose=False)["input_ids"]
        expected = np.array([len(own) for own in ids])
        assert sorted(data.tokens[name].tolist()) == sorted(expected.tolist())
        for limit in (16, 48, 3001, 3002):
            assert data.share_longer(name, limit) == pytest.approx((expected > limit).mean())
    distinct = [text for some in texts.values() for text in dict.fromkeys(some)]
    every = [token for ids in tokenizer(distinct, verbose=False)["input_ids"] for token in ids]
    assert data.unknown_share == pytest.approx(every.count(tokenizer.unk_token_id) / len(every))


def test_share_of_an_issue() -> None:
    assert DataIssue("rows", 3, 12).share == 0.25
    assert DataIssue("rows", 0, 0).share == 0.0


def test_measures_without_a_tokenizer(tmp_path: Path) -> None:
    pairs = write_jsonl(tmp_path / "pairs.jsonl", odd_rows())
    data = measure_data(str(pairs), "answer", None)
    assert data.tokens == {}
    assert data.unknown_share == 0.0
    assert data.issues[["repeated", "answers"][1]].lines == ((2, 22),)
    assert sorted(data.pairs_per_file.tolist()) == [1, 5, 5, 5, 6]
    assert data.most_repeated_answer.count == 2
