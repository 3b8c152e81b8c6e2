"""Measures of a file of pairs before training, and the issues that they show."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from embedft.check.text_measures import COPIED, TextMeasures, measure_texts
from embedft.data.pairs import row_hashes
from embedft.data.ties import RowHashes, leak_groups
from embedft.table.jsonl import refuse_pipe
from embedft.table.keys import NO_HASH, Hashes, Ints, combine_hashes, first_equal
from embedft.table.settings import ReadSettings, Target
from embedft.table.table import Table, read_table
from embedft.table.tokens import distinct_texts

LENGTH_LIMITS = (128, 256, 384, 512)
"""Usual values of max_seq_length, in tokens."""
_UNCUT = 1 << 30  # tokens
_CHUNK = 1 << 22  # tokens counted at a time, which bounds the memory
_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class DataIssue:
    """Rows or texts with one kind of problem.

    Attributes:
        name: The kind, in words.
        count: How many rows or texts have it.
        of: The number of rows or texts that were checked.
        lines: A few examples: a line of the file, or two lines that belong together.
    """

    name: str
    count: int
    of: int
    lines: tuple[tuple[int, ...], ...] = ()

    @property
    def share(self) -> float:
        """``count`` in ``of``, from 0 to 1."""
        return self.count / self.of if self.of else 0.0


@dataclass(frozen=True, slots=True)
class DataMeasures:
    """Measures of a file of pairs; "used" rows are the good rows without exact duplicates.

    Attributes:
        table: The good rows, with tokens that are not truncated.
        texts: Measures that need the texts.
        used: (used,) rows of the table, ascending.
        hashes: What ties the used rows.
        issues: The issues by key, in the order they are shown.
        tokens: Lengths in tokens, special tokens included, of the distinct ``questions``,
            ``answers`` and ``contexts`` that are used; empty without a tokenizer.
        unknown_share: Share of all tokens that are the tokenizer's unknown token.
    """

    table: Table
    texts: TextMeasures
    used: Ints
    hashes: RowHashes
    issues: dict[str, DataIssue]
    tokens: dict[str, Ints] = field(default_factory=dict)
    unknown_share: float = 0.0

    def share_longer(self, name: str, limit: int) -> float:
        """Share of the texts ``name`` that are longer than ``limit`` tokens."""
        return float(np.mean(self.tokens[name] > limit)) if len(self.tokens[name]) else 0.0

    def group_sizes(self, max_files: int | None) -> Ints:
        """(groups,) number of used rows of each group; texts in more files tie nothing."""
        return np.unique(leak_groups(self.hashes, max_files), return_counts=True)[1]

    @property
    def pairs_per_file(self) -> Ints:
        """(files,) number of used rows of each file."""
        keys = self.table.file_hash[self.used]
        return np.unique(keys[keys != NO_HASH], return_counts=True)[1]

    @property
    def most_repeated_answer(self) -> DataIssue:
        """The rows with the most frequent answer."""
        first = first_equal(self.table.answer_hash[self.used])
        counts = np.bincount(first)
        line = int(self.texts.line[self.used[np.argmax(counts)]])
        return DataIssue("rows with the same answer", int(counts.max()), len(first), ((line,),))


def measure_data(
    path: str, positive: Target, settings: ReadSettings | None, unknown_id: int | None = None
) -> DataMeasures:
    """Reads a file twice, as token ids and as texts; bad rows are left out.

    Args:
        path: The file.
        positive: The target of a question.
        settings: Settings of the model's tokenizer; without them no tokens are counted.
        unknown_id: Id of the tokenizer's unknown token.

    Raises:
        InputError: The file can't be read, or has no good row.
    """
    uncut = replace(
        settings or ReadSettings(_one_token_tokenizer(), _UNCUT),
        max_seq_length=_UNCUT,
        documents="both",
        context_required=positive == "context",
    )
    refuse_pipe(path)
    table = read_table(path, uncut, None, "skip")
    used = np.flatnonzero(~table.duplicate)
    hashes = row_hashes(table, used)
    if positive == "answer":
        hashes = replace(hashes, context=None)  # contexts are not used, so they can't leak
    tokens: dict[str, Ints] = {}
    if settings is not None:
        assert table.answer is not None
        assert table.context is not None
        columns = {"questions": table.question, "answers": table.answer, "contexts": table.context}
        for name, column in columns.items():
            tokens[name] = table.tokens.lengths(distinct_texts(column[used]))
    texts = measure_texts(table, positive)
    return DataMeasures(
        table,
        texts,
        used,
        hashes,
        data_issues(table, texts, used),
        tokens,
        0.0 if settings is None or unknown_id is None else _share_of_token(table, unknown_id),
    )


def _one_token_tokenizer() -> str:
    """A tokenizer that makes one token of any text, for when there is no model."""
    return str(Tokenizer(WordLevel({"?": 0}, unk_token="?")).to_str())


def _share_of_token(table: Table, token: int) -> float:
    ids = table.tokens.ids
    count = sum(
        int((ids[np.arange(start, min(start + _CHUNK, len(ids)))] == token).sum())
        for start in range(0, len(ids), _CHUNK)
    )
    return count / len(ids)


def data_issues(table: Table, texts: TextMeasures, used: Ints) -> dict[str, DataIssue]:
    """Repeated, ambiguous, copied and nameless rows and texts, in the order they are shown.

    Args:
        table: The good rows of a file.
        texts: Measures of their texts.
        used: Rows of the table that are used.
    """
    question, answer, file = (
        hashes[used] for hashes in (table.question_hash, table.answer_hash, table.file_hash)
    )
    n_questions = len(np.unique(question))

    def issue(name: str, of: int, *examples: Ints, count: int | None = None) -> DataIssue:
        """``examples`` are rows of the table, or earlier rows and the rows that repeat them."""
        lines = (texts.line[rows[:_EXAMPLES]].tolist() for rows in examples)
        count = len(examples[0]) if count is None else count
        return DataIssue(name, count, of, tuple(zip(*lines, strict=True)))

    def repeated(name: str, hashes: Hashes) -> DataIssue:
        first = first_equal(hashes)
        later = np.flatnonzero(first != np.arange(len(used)))
        return issue(name, len(used), used[first[later]], used[later])

    def near(name: str, hashes: Hashes, first_near: Ints) -> DataIssue:
        distinct = np.flatnonzero(first_equal(hashes) == np.arange(len(hashes)))
        later = distinct[first_near[distinct] != distinct]
        return issue(name, len(distinct), first_near[later], later)

    def several(name: str, hashes: Hashes) -> DataIssue:
        """Questions that occur with different hashes."""
        known = np.flatnonzero(hashes != NO_HASH)
        first = known[first_equal(question[known])]
        differs = hashes[known] != hashes[first]
        first, later = first[differs], known[differs]
        return issue(name, n_questions, used[first], used[later], count=len(np.unique(first)))

    first_row = first_equal(combine_hashes(table.question_hash, table.answer_hash, table.file_hash))
    dropped = np.flatnonzero(table.duplicate)
    copied, nameless = used[texts.copied[used] >= COPIED], used[file == NO_HASH]
    near_questions = near("near-duplicate questions", table.question_hash, texts.near_question)
    return {
        "duplicates": issue("exact duplicates, dropped", len(table), first_row[dropped], dropped),
        "questions": repeated("repeated questions", question),
        "answers": repeated("repeated answers", answer),
        "near_questions": near_questions,
        "near_answers": near("near-duplicate answers", table.answer_hash, texts.near_answer),
        "several_answers": several("questions with several answers", answer),
        "several_files": several("questions that several files answer", file),
        "copied": issue("questions copied from the answer", len(used), copied),
        "nameless": issue("rows without a file_name", len(used), nameless),
    }
