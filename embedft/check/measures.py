"""What is to be known of a file of pairs before it is trained on, in numbers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from embedft.check.text_measures import COPIED, TextMeasures, measure_texts
from embedft.data.pairs import row_hashes
from embedft.data.split import leak_groups
from embedft.table.keys import NO_HASH, Hashes, Ints, combine_hashes, first_equal
from embedft.table.settings import Positive, ReadSettings
from embedft.table.table import Table, read_table
from embedft.table.tokens import distinct_texts

_UNCUT = 1 << 30  # tokens
_CHUNK = 1 << 22
_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class DataIssue:
    """Rows or texts of one kind.

    Attributes:
        name: The kind, in words.
        count: How many.
        of: Of how many.
        lines: Of a few examples: the line, or those of two rows that are one together.
    """

    name: str
    count: int
    of: int
    lines: tuple[tuple[int, ...], ...] = ()

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return self.count / self.of if self.of else 0.0


@dataclass(frozen=True, slots=True)
class DataMeasures:
    """A file of pairs; "used" rows are the good ones but for exact duplicates.

    Attributes:
        table: The good rows, with tokens that are not cut.
        texts: What the texts say.
        used: (used,) rows of the table, ascending.
        group: (used,) equal for rows tied by a file, a question or an answer.
        tokens: Tokens of the distinct ``questions``, ``answers`` and ``contexts`` that are used,
            special ones included; empty without a tokenizer.
        unknown: Share of all tokens that stand for something that the tokenizer does not know.
    """

    table: Table
    texts: TextMeasures
    used: Ints
    group: Ints
    tokens: dict[str, Ints] = field(default_factory=dict)
    unknown: float = 0.0

    def share_longer(self, name: str, limit: int) -> float:
        """Share of ``tokens[name]`` above a limit."""
        return float(np.mean(self.tokens[name] > limit)) if len(self.tokens[name]) else 0.0

    @property
    def pairs_a_file(self) -> Ints:
        """(files,) used rows of each file that is named."""
        keys = self.table.file_hash[self.used]
        return np.unique(keys[keys != NO_HASH], return_counts=True)[1]

    @property
    def most_repeated_answer(self) -> DataIssue:
        """Rows with the most frequent answer."""
        first = first_equal(self.table.answer_hash[self.used])
        counts = np.bincount(first)
        line = int(self.texts.line[self.used[np.argmax(counts)]])
        return DataIssue("rows with the same answer", int(counts.max()), len(first), ((line,),))


def measure_data(
    path: str, positive: Positive, settings: ReadSettings | None, unknown_id: int | None = None
) -> DataMeasures:
    """Reads a file twice, as numbers and as texts; bad rows are left out.

    Args:
        path: The file.
        positive: What a question is trained to find.
        settings: Of the model's tokenizer; without one no tokens are counted.
        unknown_id: The tokenizer's id for what it does not know.

    Raises:
        InputError: The file can't be read, or has no good row.
    """
    uncut = replace(
        settings or ReadSettings(_one_token_a_text(), _UNCUT),
        max_seq_length=_UNCUT,
        documents="both",
        context_required=positive == "context",
    )
    table = read_table(path, uncut, None, "skip")
    used = np.flatnonzero(~table.duplicate)
    keys = row_hashes(table, used)
    if positive == "answer":
        keys = replace(keys, context=None)  # not trained on, so it ties nothing
    tokens: dict[str, Ints] = {}
    if settings is not None:
        assert table.answer is not None
        assert table.context is not None
        columns = {"questions": table.question, "answers": table.answer, "contexts": table.context}
        for name, column in columns.items():
            tokens[name] = table.tokens.lengths(distinct_texts(column[used]))
    return DataMeasures(
        table,
        measure_texts(table, positive),
        used,
        leak_groups(keys),
        tokens,
        0.0 if settings is None or unknown_id is None else _share_of(table, unknown_id),
    )


def _one_token_a_text() -> str:
    return str(Tokenizer(WordLevel({"?": 0}, unk_token="?")).to_str())


def _share_of(table: Table, token: int) -> float:
    ids = table.tokens.ids
    chunks = range(0, len(ids), _CHUNK)
    found = sum(
        int((ids[np.arange(start, min(start + _CHUNK, len(ids)))] == token).sum())
        for start in chunks
    )
    return found / len(ids)


def data_issues(data: DataMeasures) -> dict[str, DataIssue]:
    """What is repeated, answered twice, copied or of no file, in the order it is shown."""
    table, used, texts = data.table, data.used, data.texts
    question, answer, file = (
        keys[used] for keys in (table.question_hash, table.answer_hash, table.file_hash)
    )
    whole = combine_hashes(table.question_hash, table.answer_hash, table.file_hash)
    rows, distinct = len(used), len(np.unique(question))

    def finding(name: str, of: int, *examples: Ints, count: int | None = None) -> DataIssue:
        """Of columns of rows of the table: a row, or an earlier one and a row."""
        lines = (texts.line[some[:_EXAMPLES]].tolist() for some in examples)
        found = len(examples[0]) if count is None else count
        return DataIssue(name, found, of, tuple(zip(*lines, strict=True)))

    def repeated(name: str, keys: Hashes) -> DataIssue:
        first = first_equal(keys)
        later = np.flatnonzero(first != np.arange(rows))
        return finding(name, rows, used[first[later]], used[later])

    def near(name: str, keys: Hashes, alike: Ints) -> DataIssue:
        own = np.flatnonzero(first_equal(keys) == np.arange(len(keys)))
        later = own[alike[own] != own]
        return finding(name, len(own), alike[later], later)

    def several(name: str, others: Hashes) -> DataIssue:
        some = np.flatnonzero(others != NO_HASH)
        first = some[first_equal(question[some])]
        differs = others[some] != others[first]
        first, later = first[differs], some[differs]
        return finding(name, distinct, used[first], used[later], count=len(np.unique(first)))

    dropped = np.flatnonzero(table.duplicate)
    copied, nameless = used[texts.copied[used] >= COPIED], used[file == NO_HASH]
    return {
        "duplicates": finding(
            "exact duplicates, dropped", len(table), first_equal(whole)[dropped], dropped
        ),
        "questions": repeated("repeated questions", question),
        "answers": repeated("repeated answers", answer),
        "near_questions": near(
            "near-duplicate questions", table.question_hash, texts.near_question
        ),
        "near_answers": near("near-duplicate answers", table.answer_hash, texts.near_answer),
        "several_answers": several("questions with several answers", answer),
        "several_files": several("questions that several files answer", file),
        "copied": finding("questions copied from the answer", rows, copied),
        "nameless": finding("rows without a file_name", rows, nameless),
    }
