"""The embeddings of sampled rows, to see whether their answers belong to their questions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from embedft.data.datamodule import EmbeddingDataModule
from embedft.data.pairs import Pairs
from embedft.data.texts import stream_rows
from embedft.encoder.encoder import Encoder
from embedft.evaluation.answer_fit import MIN_QUESTIONS, OFFSETS, AnswerFit, measure_answer_fit
from embedft.inference.embed import embed_distinct
from embedft.table.keys import Ints, Mask

log = logging.getLogger(__name__)

_MOST = 300  # questions
_BLOCK, _BLOCKS = 50, 5  # rows that follow each other, and how many such blocks


class RowAnswers:
    """The question and the answer of each row of the file with the held-out questions."""

    def __init__(self, data: EmbeddingDataModule) -> None:
        self.task = data.task
        train, held_out = data.fit_data.searched_pairs
        parts = (train, held_out) if data.validation_jsonl is None else (held_out,)
        n_rows = 1 + max(int(pairs.source_row.max(initial=-1)) for pairs in parts)
        self.question, self.question_id, self.answer_id = (np.full(n_rows, -1) for _ in range(3))
        for pairs in parts:
            self._add(pairs)

    def _add(self, pairs: Pairs) -> None:
        self.question[pairs.source_row] = pairs.anchor
        self.question_id[pairs.source_row] = pairs.anchor_id
        self.answer_id[pairs.source_row] = pairs.positive_id

    def answers(self, rows: Ints) -> Ints:
        """The texts of the answers of these rows, as the corpus has them."""
        return self.task.corpus[np.searchsorted(self.task.corpus_ids, self.answer_id[rows])]

    def neighbours(self, rows: Ints) -> tuple[Ints, Mask]:
        """(Q, W) rows at the offsets, the row itself if there is none; and whether there is one."""
        near_QW = rows[:, None] + np.array(OFFSETS)
        inside_QW = (near_QW >= 0) & (near_QW < len(self.question))
        near_QW = np.where(inside_QW, near_QW, rows[:, None])
        exists_QW = self.answer_id[near_QW] >= 0
        exists_QW &= self.answer_id[near_QW] != self.answer_id[rows, None]
        exists_QW &= self.question_id[near_QW] != self.question_id[rows, None]
        return np.where(exists_QW, near_QW, rows[:, None]), exists_QW

    def blocks(self) -> Ints:
        """Rows in a few blocks, spread evenly over the file."""
        known = np.flatnonzero(self.answer_id >= 0)
        starts = np.linspace(0, max(0, len(known) - _BLOCK), _BLOCKS).astype(int)
        index = np.unique(starts[:, None] + np.arange(_BLOCK))
        return known[index[index < len(known)]]

    def held_out(self) -> Ints:
        """Rows of held-out questions, spread evenly."""
        rows = np.sort(self.task.source_rows)
        return np.asarray(rows[np.linspace(0, len(rows) - 1, min(_MOST, len(rows))).astype(int)])


def measure_rows(
    answers: RowAnswers, rows: Ints, embed: Callable[[Ints], Tensor], *, in_sample: bool
) -> AnswerFit:
    """How well the answers of rows fit their questions.

    Args:
        answers: The texts of all rows.
        rows: (Q,) the sampled rows, ascending.
        embed: The embeddings of texts, (texts, D).
        in_sample: Only the answers of sampled rows are compared as neighbours.
    """
    near_QW, exists_QW = answers.neighbours(rows)
    if in_sample:
        exists_QW &= np.isin(near_QW, rows)
        near_QW = np.where(exists_QW, near_QW, rows[:, None])
    irrelevant_QQ = answers.answer_id[rows, None] != answers.answer_id[rows]
    irrelevant_QQ &= answers.question_id[rows, None] != answers.question_id[rows]
    questions_QD = embed(answers.question[rows])
    device = questions_QD.device
    return measure_answer_fit(
        rows,
        questions_QD,
        embed(answers.answers(rows)),
        embed(answers.answers(near_QW.ravel())).view(*near_QW.shape, -1),
        torch.from_numpy(irrelevant_QQ).to(device),
        torch.from_numpy(exists_QW).to(device),
    )


def warn_of_misplaced_answers(data: EmbeddingDataModule, embed: Callable[[Ints], Tensor]) -> None:
    """Warns if the answers of held-out rows do not seem to belong to their questions.

    Args:
        data: Has loaded its data.
        embed: The base model's embeddings of texts of the retrieval task.
    """
    if len(data.task.queries) < MIN_QUESTIONS:
        return
    answers = RowAnswers(data)
    rows = answers.held_out()
    query_of = dict(zip(data.task.source_rows.tolist(), data.task.queries.tolist(), strict=True))
    answers.question[rows] = [query_of[row] for row in rows.tolist()]  # as the task has them
    fit = measure_rows(answers, rows, embed, in_sample=False)

    def lines_of(wanted: Sequence[int]) -> list[int]:
        path = data.validation_jsonl or data.input_jsonl
        return [row.line for index, row in enumerate(stream_rows(data, path)) if index in wanted]

    for problem in fit.problems(lines_of):
        log.warning("%s", problem)


def sample_answer_fit(
    data: EmbeddingDataModule, encoder: Encoder, trainer: Trainer
) -> AnswerFit | None:
    """How well the answers of a few blocks of rows fit; embeds them. None if there are too few.

    Args:
        data: Has loaded its data.
        encoder: The base model.
        trainer: Gives device and precision.
    """
    answers = RowAnswers(data)
    rows = answers.blocks()
    if len(rows) < MIN_QUESTIONS:
        return None
    texts = np.concatenate([answers.question[rows], answers.answers(rows)])
    embeddings = embed_distinct(encoder, data.tokens, texts, data.eval_batch_size, trainer, "")
    return measure_rows(
        answers, rows, lambda wanted: torch.from_numpy(embeddings.lookup(wanted)), in_sample=True
    )
