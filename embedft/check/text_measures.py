"""One pass over the texts of a file: near duplicates, copied questions, languages."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np
import py3langid
from numpy.typing import NDArray

from embedft.check.near_duplicates import MinHasher, near_duplicates
from embedft.table.jsonl import stream_records
from embedft.table.keys import Ints, first_equal
from embedft.table.read_report import ReadCounts
from embedft.table.record import Record, normalize_text
from embedft.table.settings import Positive
from embedft.table.table import Table
from embedft.tools.progress import progress

COPIED = 0.7
"""From this share of a question's words on, in one run, its answer gives it away."""
SAMPLED = 2_000
"""Rows whose language is looked at."""
_LANGUAGE_LETTERS = 400  # of a row: enough to tell
_FEWEST_WORDS = 4  # a shorter run is a name, not a question


@dataclass(frozen=True, slots=True)
class TextMeasures:
    """What only the texts say; arrays have one entry a good row.

    Attributes:
        line: Line in the file.
        near_question: The first row whose question is the same or nearly the same.
        near_answer: The first row whose answer is.
        copied: Share of the question's words that its positive holds one after the other, 0 to 1.
        languages: How many of the rows drawn are in a language, by its ISO 639 code.
    """

    line: Ints
    near_question: Ints
    near_answer: Ints
    copied: NDArray[np.float64]
    languages: Counter[str]


def measure_texts(table: Table, positive: Positive) -> TextMeasures:
    """Reads the good rows of a table's file again.

    Args:
        table: Says which texts are the same.
        positive: What a question is trained to find.
    """
    rows = len(table)
    assert table.answer is not None
    first_question, first_answer = first_equal(table.question_hash), first_equal(table.answer_hash)
    questions, answers = MinHasher(), MinHasher()
    rng = np.random.default_rng(0)
    sampled = set(rng.choice(rows, min(rows, SAMPLED), replace=False).tolist())
    line = np.zeros(rows, dtype=np.int64)
    copied = np.zeros(rows)
    languages: Counter[str] = Counter()
    stream = stream_records(
        table.path, ReadCounts(table.path), context_required=positive == "context"
    )
    for row, record in enumerate(
        progress(stream, desc="comparing texts", total=rows, unit=" rows")
    ):
        line[row] = record.line
        question, answer = words_of(record.question), words_of(record.answer)
        copied[row] = _copied(question, answer, record, positive)
        if first_question[row] == row:
            questions.add(question)
        if first_answer[row] == row:
            answers.add(answer)
        if row in sampled:
            text = f"{record.question} {record.answer}"[:_LANGUAGE_LETTERS]
            languages[py3langid.classify(text)[0]] += 1
    return TextMeasures(
        line,
        _first_alike(first_question, questions),
        _first_alike(first_answer, answers),
        copied,
        languages,
    )


def _copied(question: list[str], answer: list[str], record: Record, positive: Positive) -> float:
    runs = [0]
    if positive != "context":
        runs.append(longest_run(question, answer))
    if positive != "answer" and record.context:
        runs.append(longest_run(question, words_of(record.context)))
    longest = max(runs)
    return longest / len(question) if longest >= _FEWEST_WORDS else 0.0


def _first_alike(first: Ints, signer: MinHasher) -> Ints:
    """(rows,) the first row with a text like the row's.

    Args:
        first: (rows,) the first row with the same text.
        signer: Has the texts of those first rows.
    """
    distinct = np.flatnonzero(first == np.arange(len(first)))
    alike = distinct[near_duplicates(signer.signatures())]
    return alike[np.searchsorted(distinct, first)]


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
