from __future__ import annotations

import unicodedata
from collections import Counter

from oracle import read_records, split_records
from tiny import MULTILINGUAL, SAMPLE, sample_rows

from embedft.table.record import normalize_text


def test_size_and_variety() -> None:
    records, report = read_records(SAMPLE)
    assert report.valid >= 240
    assert (report.skipped, report.duplicates) == (0, 0)
    assert (report.repeated_questions, report.repeated_answers) == (0, 0)
    assert len({record.file_name for record in records}) >= 40
    assert all(record.context and record.file_name for record in records)
    split = split_records(records, 0.8, seed=42)
    assert len(split.validation) >= 40


def test_questions_do_not_copy_their_answers() -> None:
    """Retrieval would be trivial if questions repeated the words of their answers."""
    shares = []
    for row in sample_rows():
        question = set(normalize_text(row["question"]).strip("?").split())
        answer = set(normalize_text(row["answer"]).split())
        shares.append(len({w for w in question & answer if len(w) > 4}) / max(1, len(question)))
    assert sum(shares) / len(shares) < 0.2


def test_multilingual_rows_cover_scripts_and_traps() -> None:
    text = " ".join(row["question"] + row["answer"] for row in sample_rows(MULTILINGUAL))
    scripts = Counter(unicodedata.name(c, "?").split()[0] for c in text if c.isalpha())
    assert len([script for script, count in scripts.items() if count >= 5]) >= 8
    assert "\u2028" in text
    assert "\u200d" in text
    assert any(ord(c) > 0xFFFF for c in text)
    assert unicodedata.normalize("NFC", text) != text
