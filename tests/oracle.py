"""A second reader, of records instead of columns: what tables and splits are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from embedft.data.split import Split, split_rows
from embedft.data.ties import RowHashes
from embedft.table.jsonl import OnBadRows, stream_records
from embedft.table.keys import Hashes, text_hashes
from embedft.table.read_report import ReadCounts
from embedft.table.record import Record, normalize_name, normalize_text


def read_records(
    path: str | Path,
    on_bad_rows: OnBadRows = "error",
    *,
    drop_duplicates: bool = True,
    context_required: bool = False,
) -> tuple[list[Record], ReadCounts]:
    """The valid rows of a file in its order, and what reading counted."""
    counts = ReadCounts(str(path))
    records = list(stream_records(path, counts, context_required=context_required))
    counts.check(len(records), refuse_bad_rows=on_bad_rows == "error")
    if drop_duplicates:
        kept = {record[2:-1]: record for record in reversed(records)}  # the first of each stays
        counts.duplicates = len(records) - len(kept)
        records = sorted(kept.values(), key=lambda record: record.line)
    labelled = sum(record.label is not None for record in records)
    if labelled < len(records):
        first = next(record.line for record in records if record.label is None)
        counts.check_labels(labelled, len(records), first)
    questions = {normalize_text(record.question) for record in records}
    answers = {normalize_text(record.answer) for record in records}
    counts.repeated_questions = len(records) - len(questions)
    counts.repeated_answers = len(records) - len(answers)
    return records, counts


def record_hashes(records: Sequence[Record], with_context: bool) -> RowHashes:
    """What ties records together: question, answer, file name, and context if trained on."""

    def normalized(name: str) -> Hashes:
        return text_hashes(normalize_text(getattr(record, name)) for record in records)

    return RowHashes(
        normalized("question"),
        normalized("answer"),
        text_hashes(normalize_name(record.file_name) for record in records),
        normalized("context") if with_context else None,
    )


def split_records(
    records: Sequence[Record], train_split: float, seed: int, with_context: bool = False
) -> Split:
    """:func:`split_rows` of records."""
    return split_rows(record_hashes(records, with_context), train_split, seed)
