"""A block of lines as columns of numbers: the step from text to arrays.

Imports neither torch nor transformers: worker processes start quickly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedft.table.jsonl import lines_of
from embedft.table.keys import Hashes, Ints, Mask, combine_hashes, text_hashes
from embedft.table.read_report import MAX_REPORTED
from embedft.table.record import RowError, normalize_name, normalize_text, parse_row
from embedft.table.settings import ReadSettings
from embedft.table.tokenizer import TextTokenizer, TokenizedTexts


@dataclass(frozen=True, slots=True)
class Block:
    """What a block of lines holds; its arrays have one entry a good row, or one a text.

    Attributes:
        lines: Lines, blank ones included.
        rows: Lines that are not blank.
        skipped: Bad rows.
        bad_rows: Line in the block, from 1, and what is wrong, of the first bad rows.
        first_without_label: Line in the block of the first good row without a label; 0 if none.
        question: (good rows,) which text of the block the question is.
        answer: (good rows,) likewise; -1 where it is not tokenised.
        context: (good rows,) likewise; -1 where there is none.
        question_hash: (good rows,) key of the normalised question.
        answer_hash: (good rows,) key of the normalised answer.
        context_hash: (good rows,) key of the normalised context, 0 where there is none.
        file_hash: (good rows,) key of the file name, 0 where there is none.
        row_hash: (good rows,) key of every field but ``id``.
        id_hash: (good rows,) key of the row's own id, 0 where it has none.
        line: (good rows,) line in the block, from 1.
        label: (good rows,) float64, NaN where there is none.
        negatives: (good rows,) how many negatives the row has, of those that are tokenised.
        negative: (negatives of all rows,) which text of the block each is.
        negative_hash: (negatives of all rows,) keys of the normalised negatives.
        text_hash: (texts,) keys of the exact texts with their prompts.
        ids: (total,) uint16 or int32, the ids of the distinct texts one after the other.
        lengths: (texts,) int32, tokens a text.
        cut: (texts,) the text was longer than ``max_seq_length``.
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
        place_of: dict[str, int] = {"": 0}
        fields: list[int] = []  # question, answer, context and file name, row after row
        labels: list[float] = []
        ids: list[str] = []
        good_lines: list[int] = []
        negatives: list[tuple[str, ...]] = []
        bad_rows: list[tuple[int, str]] = []
        line = rows = skipped = first_without_label = 0
        required = self.settings.context_required
        for line, (content, is_cut) in enumerate(lines_of(block), 1):
            if content is None:
                continue
            rows += 1
            try:
                record = parse_row(content, line, required, is_cut)
            except RowError as bad:
                skipped += 1
                if len(bad_rows) < MAX_REPORTED:
                    bad_rows.append((line, str(bad)))
                continue
            fields += [place_of.setdefault(text, len(place_of)) for text in record[2:6]]
            ids.append(record.id if record.own_id else "")
            good_lines.append(line)
            negatives.append(record.negatives)
            if record.label is None:
                first_without_label = first_without_label or line
                labels.append(math.nan)
            else:
                labels.append(record.label + 0.0)  # -0.0 is 0.0
        own_negatives = text_hashes(repr(some) if some else "" for some in negatives)
        if not self.settings.negatives:
            negatives = [()] * len(negatives)
        wrong = [place_of.setdefault(text, len(place_of)) for some in negatives for text in some]
        negative = np.array(wrong, dtype=np.int64)
        texts = list(place_of)
        exact = text_hashes(texts)
        normal = text_hashes(map(normalize_text, texts))
        question, answer, context, file = np.array(fields, dtype=np.int64).reshape(-1, 4).T
        names, name = np.unique(file, return_inverse=True)
        file_hash = text_hashes(normalize_name(texts[place]) for place in names.tolist())[name]
        label = np.array(labels, dtype=np.float64)
        numbers, text_hash, tokens = self._tokenize(
            texts, exact, question, answer, context, negative
        )
        return Block(
            lines=line,
            rows=rows,
            skipped=skipped,
            bad_rows=bad_rows,
            first_without_label=first_without_label,
            question=numbers[0],
            answer=numbers[1],
            context=numbers[2],
            question_hash=normal[question],
            answer_hash=normal[answer],
            context_hash=normal[context],
            file_hash=file_hash,
            row_hash=combine_hashes(
                exact[question],
                exact[answer],
                exact[context],
                exact[file],
                label.view(np.uint64),
                own_negatives,
            ),
            id_hash=text_hashes(ids),
            line=np.array(good_lines, dtype=np.int64),
            label=label,
            negatives=np.fromiter(map(len, negatives), dtype=np.int64, count=len(negatives)),
            negative=numbers[3],
            negative_hash=normal[negative],
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
        """Tokenises the texts that are asked for; the same text with another prompt is another.

        Returns:
            (rows,) numbers of the questions, answers and contexts and (negatives,) of the
            negatives among the tokenised texts, -1 for none; the keys of those texts; their
            tokens.
        """
        settings = self.settings
        prompts = [settings.query_prompt, settings.document_prompt]
        apart = len(texts) * (prompts[0] != prompts[1])  # documents count on from here
        places = [question, answer + apart, context + apart, negative + apart]
        if settings.documents == "context":
            places[1] = np.full(len(answer), -1)
        places[2] = np.where(context == 0, -1, places[2])
        if settings.documents == "answer":
            places[2] = np.full(len(context), -1)
        distinct, numbers = np.unique(np.concatenate([[-1], *places]), return_inverse=True)
        distinct = distinct[1:]
        role, place = np.divmod(distinct, max(1, len(texts)))
        wanted = [prompts[r] + texts[p] for r, p in zip(role.tolist(), place.tolist(), strict=True)]
        if settings.lower_case:
            wanted = [text.lower() for text in wanted]
        ends = np.cumsum([len(question)] * 3)
        columns = np.split(numbers[1:] - 1, ends)
        return columns, combine_hashes(exact[place], role), self.tokenizer(wanted)
