"""A block of lines as columns of numbers: the step from text to arrays.

Imports neither torch nor transformers: worker processes start quickly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from embedft.table.jsonl import lines_of
from embedft.table.keys import Hashes, Ints, Mask, combine_hashes, text_hashes
from embedft.table.read_report import MAX_REPORTED
from embedft.table.record import Record, RowError, normalize_name, normalize_text, parse_row
from embedft.table.settings import ReadSettings
from embedft.table.tokenizer import TextTokenizer, TokenizedTexts


@dataclass(frozen=True, slots=True)
class Block:
    """What a block of lines holds; its arrays have one entry for each valid row, or each text.

    Attributes:
        lines: Lines, including blank ones.
        rows: Lines that are not blank.
        skipped: Bad rows.
        bad_rows: Line in the block, from 1, and what is wrong, of the first bad rows.
        first_without_label: Line in the block of the first valid row without a label; 0 if none.
        question: (valid rows,) index of the question among the texts of the block.
        answer: (valid rows,) index of the answer; -1 if answers are not tokenised.
        context: (valid rows,) index of the context; -1 if there is none.
        question_hash: (valid rows,) hash of the normalised question.
        answer_hash: (valid rows,) hash of the normalised answer.
        context_hash: (valid rows,) hash of the normalised context; 0 if there is none.
        file_hash: (valid rows,) hash of the file name; 0 if there is none.
        row_hash: (valid rows,) hash of every field but ``id``.
        id_hash: (valid rows,) hash of the ``id`` field; 0 if there is none.
        line: (valid rows,) line in the block, from 1.
        label: (valid rows,) float64; NaN if there is none.
        negatives: (valid rows,) number of tokenised negatives of the row.
        negative: (negatives of all rows,) index of each among the texts of the block.
        negative_hash: (negatives of all rows,) hashes of the normalised negatives.
        text_hash: (texts,) hashes of the exact texts with their prompts.
        ids: (total,) uint16 or int32 token ids of the distinct texts, one text after the other.
        lengths: (texts,) int32, tokens per text.
        cut: (texts,) whether the text was longer than ``max_seq_length``.
    """

    lines: int
    rows: int
    skipped: int
    bad_rows: list[tuple[int, str]]
    first_without_label: int
    question: Ints
    answer: Ints
    context: Ints
    question_hash: Hashes
    answer_hash: Hashes
    context_hash: Hashes
    file_hash: Hashes
    row_hash: Hashes
    id_hash: Hashes
    line: Ints
    label: NDArray[np.float64]
    negatives: Ints
    negative: Ints
    negative_hash: Hashes
    text_hash: Hashes
    ids: NDArray[np.generic]
    lengths: NDArray[np.int32]
    cut: Mask


class BlockReader:
    """Parses, validates, hashes and tokenises blocks of lines."""

    def __init__(self, settings: ReadSettings) -> None:
        self.settings = settings
        self.tokenizer = TextTokenizer(
            settings.tokenizer, settings.max_seq_length, settings.truncation_side
        )

    def __call__(self, block: bytes) -> Block:
        """Reads one block; equal texts of it are hashed and tokenised once."""
        parsed = _parse(block, context_required=self.settings.context_required)
        negatives_hash = text_hashes(repr(texts) if texts else "" for texts in parsed.negatives)
        none: list[tuple[str, ...]] = [()] * len(parsed.negatives)
        negatives = parsed.negatives if self.settings.negatives else none
        negative = parsed.indices(text for texts in negatives for text in texts)
        texts = list(parsed.index_of)
        exact = text_hashes(texts)
        normalized = text_hashes(map(normalize_text, texts))
        question, answer, context, file = np.array(parsed.fields, dtype=np.int64).reshape(-1, 4).T
        names, name = np.unique(file, return_inverse=True)
        file_hash = text_hashes(normalize_name(texts[index]) for index in names.tolist())[name]
        label = np.array(parsed.labels, dtype=np.float64)
        columns, text_hash, tokens = self._tokenize(
            texts, exact, question, answer, context, negative
        )
        return Block(
            lines=parsed.n_lines,
            rows=parsed.n_rows,
            skipped=parsed.skipped,
            bad_rows=parsed.bad_rows,
            first_without_label=parsed.first_without_label,
            question=columns[0],
            answer=columns[1],
            context=columns[2],
            question_hash=normalized[question],
            answer_hash=normalized[answer],
            context_hash=normalized[context],
            file_hash=file_hash,
            row_hash=combine_hashes(
                exact[question],
                exact[answer],
                exact[context],
                exact[file],
                label.view(np.uint64),
                negatives_hash,
            ),
            id_hash=text_hashes(parsed.ids),
            line=np.array(parsed.lines, dtype=np.int64),
            label=label,
            negatives=np.fromiter(map(len, negatives), dtype=np.int64, count=len(negatives)),
            negative=columns[3],
            negative_hash=normalized[negative],
            text_hash=text_hash,
            ids=tokens.ids,
            lengths=tokens.lengths,
            cut=tokens.cut,
        )

    def _tokenize(
        self,
        texts: list[str],
        exact: Hashes,
        question: Ints,
        answer: Ints,
        context: Ints,
        negative: Ints,
    ) -> tuple[list[Ints], Hashes, TokenizedTexts]:
        """Tokenises the texts that are asked for; a text under two prompts counts as two.

        Returns:
            (rows,) indices of the questions, answers and contexts and (negatives,) of the
            negatives among the tokenised texts, -1 for none; the hashes of those texts; their
            tokens.
        """
        settings = self.settings
        prompts = [settings.query_prompt, settings.document_prompt]
        first_document = len(texts) * (prompts[0] != prompts[1])
        columns = [question, *(column + first_document for column in (answer, context, negative))]
        if settings.documents == "context":
            columns[1] = np.full(len(answer), -1)
        columns[2] = np.where(context == 0, -1, columns[2])
        if settings.documents == "answer":
            columns[2] = np.full(len(context), -1)
        distinct, index = np.unique(np.concatenate([[-1], *columns]), return_inverse=True)
        role, text = np.divmod(distinct[1:], max(1, len(texts)))
        wanted = [prompts[r] + texts[t] for r, t in zip(role.tolist(), text.tolist(), strict=True)]
        if settings.lower_case:
            wanted = [prompted.lower() for prompted in wanted]
        ends = np.cumsum([len(question)] * 3)
        return (
            np.split(index[1:] - 1, ends),
            combine_hashes(exact[text], role),
            self.tokenizer(wanted),
        )


@dataclass(slots=True)
class _Parsed:
    """The valid rows of a block as Python values, and what was counted."""

    index_of: dict[str, int] = field(default_factory=lambda: {"": 0})
    fields: list[int] = field(default_factory=list)
    """Indices of question, answer, context and file name, row after row."""
    labels: list[float] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    negatives: list[tuple[str, ...]] = field(default_factory=list)
    bad_rows: list[tuple[int, str]] = field(default_factory=list)
    n_lines: int = 0
    n_rows: int = 0
    skipped: int = 0
    first_without_label: int = 0

    def indices(self, texts: Iterable[str]) -> Ints:
        """(texts,) their indices; a new text gets the next one."""
        index_of = self.index_of
        indices = [index_of.setdefault(text, len(index_of)) for text in texts]
        return np.array(indices, dtype=np.int64)

    def add(self, record: Record, line: int) -> None:
        """Adds a valid row."""
        index_of = self.index_of
        self.fields += [index_of.setdefault(text, len(index_of)) for text in record[2:6]]
        self.ids.append(record.id if record.has_id else "")
        self.lines.append(line)
        self.negatives.append(record.negatives)
        if record.label is None:
            self.first_without_label = self.first_without_label or line
            self.labels.append(math.nan)
        else:
            self.labels.append(record.label + 0.0)  # -0.0 is 0.0


def _parse(block: bytes, *, context_required: bool) -> _Parsed:
    parsed = _Parsed()
    for line, (content, is_unfinished) in enumerate(lines_of(block), 1):
        parsed.n_lines = line
        if content is None:
            continue
        parsed.n_rows += 1
        try:
            record = parse_row(content, line, context_required, is_unfinished)
        except RowError as bad:
            parsed.skipped += 1
            if len(parsed.bad_rows) < MAX_REPORTED:
                parsed.bad_rows.append((line, str(bad)))
        else:
            parsed.add(record, line)
    return parsed
