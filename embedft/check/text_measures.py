"""One pass over the texts of a file: near-duplicates, copied questions, languages."""

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
from embedft.table.settings import Target
from embedft.table.table import Table
from embedft.tools.progress import progress

COPIED = 0.7
"""A question is copied if its answer has this share of its words, or more, in one run."""
LANGUAGE_SAMPLE = 2_000
"""Rows whose language is detected."""
_LANGUAGE_CHARACTERS = 400  # of a row: enough to detect its language
_MIN_RUN = 4  # words: a shorter run is a name, not a question


@dataclass(frozen=True, slots=True)
class TextMeasures:
    """Measures that need the texts; arrays have one entry per good row.

    Attributes:
        line: Line in the file.
        near_question: The first row whose question is the same or a near-duplicate.
        near_answer: The first row whose answer is the same or a near-duplicate.
        copied: Share, 0 to 1, of the question's words in the longest run of words that its
            positive repeats.
        languages: Sampled rows in each language, by its ISO 639 code.
    """

    line: Ints
    near_question: Ints
    near_answer: Ints
    copied: NDArray[np.float64]
    languages: Counter[str]


def measure_texts(table: Table, positive: Target) -> TextMeasures:
    """Reads the good rows of a table's file again.

    Args:
        table: The table of the file.
        positive: The target of a question.
    """
    rows = len(table)
    assert table.answer is not None
    first_question, first_answer = first_equal(table.question_hash), first_equal(table.answer_hash)
    questions, answers = MinHasher(), MinHasher()
    rng = np.random.default_rng(0)
    sampled = set(rng.choice(rows, min(rows, LANGUAGE_SAMPLE), replace=False).tolist())
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
        question, answer = split_words(record.question), split_words(record.answer)
        copied[row] = _copied_share(question, answer, record, positive)
        if first_question[row] == row:
            questions.add(question)
        if first_answer[row] == row:
            answers.add(answer)
        if row in sampled:
            text = f"{record.question} {record.answer}"[:_LANGUAGE_CHARACTERS]
            languages[py3langid.classify(text)[0]] += 1
    return TextMeasures(
        line,
        _first_near_duplicate(first_question, questions),
        _first_near_duplicate(first_answer, answers),
        copied,
        languages,
    )


def _copied_share(
    question: list[str], answer: list[str], record: Record, positive: Target
) -> float:
    runs = [0]
    if positive != "context":
        runs.append(longest_run(question, answer))
    if positive != "answer" and record.context:
        runs.append(longest_run(question, split_words(record.context)))
    longest = max(runs)
    return longest / len(question) if longest >= _MIN_RUN else 0.0


def _first_near_duplicate(first: Ints, hasher: MinHasher) -> Ints:
    """(rows,) the first row whose text is the same as the row's or a near-duplicate.

    Args:
        first: (rows,) the first row with the same text.
        hasher: The hasher that the texts of those first rows were added to.
    """
    distinct = np.flatnonzero(first == np.arange(len(first)))
    near = distinct[near_duplicates(hasher.signatures())]
    return near[np.searchsorted(distinct, first)]


# Scripts without spaces between words, in which each character counts as a word: Thai, Lao,
# Burmese, Khmer, kana, Han.
_UNSPACED = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
)
_INDIC = r"\u0900-\u0dff"  # their vowel signs are not in \w
_WORD = re.compile(rf"[{_UNSPACED}]|(?:[^\W{_UNSPACED}]|[{_INDIC}])+")


def split_words(text: str) -> list[str]:
    """The words of a text, normalised."""
    return _WORD.findall(normalize_text(text))


def longest_run(words: list[str], text: list[str]) -> int:
    """Length of the longest run of ``words`` that ``text`` repeats in the same order."""
    joined = f" {' '.join(text)} "
    longest = 0
    for start in range(len(words)):
        while (end := start + longest + 1) <= len(words):
            if f" {' '.join(words[start:end])} " not in joined:
                break
            longest += 1
    return longest
