"""What ties rows together: equal files, questions and answers, unless too many files share them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from embedft.table.keys import NO_HASH, Hashes, Ints, connected, dense_ids
from embedft.table.record import Record
from embedft.table.settings import Target
from embedft.tools.text import one_line

_MAX_TEXT = 60  # characters of an example


@dataclass(frozen=True, slots=True)
class RowHashes:
    """What ties rows together: (rows,) hashes of normalised texts and file names, 0 for none.

    Attributes:
        question: Hashes of the questions.
        answer: Hashes of the answers.
        file: Hashes of the file names.
        context: Hashes of the contexts; None if they are not trained on and so tie nothing.
        answers_trained: Whether answers are trained on. They tie rows in any case.
    """

    question: Hashes
    answer: Hashes
    file: Hashes
    context: Hashes | None = None
    answers_trained: bool = True

    def __len__(self) -> int:
        return len(self.question)


class FileCounts(NamedTuple):
    """(rows,) in how many files each text of a row is; a row without a name is a file of its own.

    An answer that is another row's context is one text. None if contexts tie nothing.
    """

    question: Ints
    answer: Ints
    context: Ints | None


def count_files(hashes: RowHashes) -> FileCounts:
    """In how many files each text is."""
    rows = len(hashes)
    file = dense_ids(hashes.file)
    file = np.where(file < 0, rows + np.arange(rows), file)
    passages = hashes.answer if hashes.context is None else np.append(hashes.answer, hashes.context)
    of_passage = _files_per_text(passages, np.resize(file, len(passages)))
    return FileCounts(
        _files_per_text(hashes.question, file),
        of_passage[:rows],
        None if hashes.context is None else of_passage[rows:],
    )


def _files_per_text(text: Hashes, file: Ints) -> Ints:
    """(texts,) the number of different files of equal texts; 0 for an empty text."""
    text_id, width = dense_ids(text), int(file.max(initial=0)) + 1
    known = text_id >= 0
    pair = np.unique(text_id[known] * width + file[known])
    return np.append(np.bincount(pair // width), 0)[text_id]


def leak_groups(hashes: RowHashes, max_files: int | None = None) -> Ints:
    """(rows,) the first row of each row's group: connected components under shared hashes.

    One row's answer may be another's context, which ties them, too.

    Args:
        hashes: What ties the rows.
        max_files: Texts in more files tie nothing; None for no such limit.
    """
    if max_files is not None:
        hashes = without_shared(hashes, count_files(hashes), max_files)
    question, file = dense_ids(hashes.question), dense_ids(hashes.file)
    if hashes.context is None:
        return connected(question, dense_ids(hashes.answer), file)
    rows = np.arange(len(hashes))  # each twice: with its answer, and with its context
    no_ties = np.full(len(rows), -1)
    passage = dense_ids(np.append(hashes.answer, hashes.context))
    columns = (np.append(rows, rows), np.append(question, no_ties), np.append(file, no_ties))
    return connected(passage, *columns)[: len(rows)]


def without_shared(hashes: RowHashes, files: FileCounts, max_files: int) -> RowHashes:
    """The hashes with 0 for each text in more files."""
    none = np.uint64(NO_HASH)
    context = hashes.context
    if context is not None:
        assert files.context is not None
        context = np.where(files.context > max_files, none, context)
    return replace(
        hashes,
        question=np.where(files.question > max_files, none, hashes.question),
        answer=np.where(files.answer > max_files, none, hashes.answer),
        context=context,
    )


class SharedText(NamedTuple):
    """The texts of one kind that more than ``max_files`` files share.

    Attributes:
        kind: ``question``, ``answer`` or ``context``.
        hashes: Their hashes.
        rows: Rows that have one of them.
        of_rows: All rows.
        max_files: The number of files.
        files: The number of files that share the most shared one.
        line: A line that has it.
        text: Its beginning.
    """

    kind: str
    hashes: Hashes
    rows: int
    of_rows: int
    max_files: int
    files: int
    line: int
    text: str

    def __str__(self) -> str:
        count = len(self.hashes)
        kind = f"{count:,} {self.kind}s, such as" if count > 1 else f"the {self.kind}"
        return f'{kind} "{self.text}" (line {self.line}, {self.files:,} files)'

    @property
    def problem(self) -> str:
        """What is wrong with its rows, and what to do."""
        rows = (
            f"{self.rows:,} of {self.of_rows:,} rows have {self}: {self.kind}s that more than "
            f"{self.max_files} files share"
        )
        if self.kind == "question":
            return (
                f"{rows} can't tell files apart. Rewrite them, or drop them with "
                f"--data.max_files_per_question {self.max_files}"
            )
        return f"{rows} fit many questions. Replace them by longer ones, or remove the rows"


def problems(shared: Iterable[SharedText], target: Target) -> Iterator[str]:
    """What is wrong with rows of shared texts, and what to do: those that are trained on."""
    return (text.problem for text in shared if target != "context" or text.kind != "answer")


def shared_texts(
    hashes: RowHashes, max_files: int | None, rows: Ints, records: Iterator[Record]
) -> tuple[SharedText, ...]:
    """The texts that more files share, an entry for each kind of which there is any.

    Args:
        hashes: What ties the rows.
        max_files: The number of files; None finds nothing.
        rows: (rows,) ascending indices of the rows among all valid rows of the file.
        records: All valid rows of the file, read only if there is a shared text.
    """
    if max_files is None:
        return ()
    columns = {
        kind: files
        for kind, files in count_files(hashes)._asdict().items()
        if files is not None and files.max(initial=0) > max_files
    }
    most_shared = {kind: int(rows[np.argmax(files)]) for kind, files in columns.items()}
    wanted = set(most_shared.values())
    texts = {index: record for index, record in enumerate(records) if index in wanted}
    return tuple(
        SharedText(
            kind,
            np.unique(getattr(hashes, kind)[files > max_files]),
            rows=int((files > max_files).sum()),
            of_rows=len(hashes),
            max_files=max_files,
            files=int(files.max()),
            line=texts[most_shared[kind]].line,
            text=one_line(getattr(texts[most_shared[kind]], kind), _MAX_TEXT),
        )
        for kind, files in columns.items()
    )
