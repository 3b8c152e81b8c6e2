"""From files to what a fit, an evaluation or a prediction needs of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from embedft.data.negative_sampling import named_negatives
from embedft.data.pairs import Pairs, TableRows, row_hashes, target_names
from embedft.data.task import retrieval_task
from embedft.data.ties import SharedText, count_files
from embedft.data.train_validation import (
    TrainValidation,
    pairs_with_validation_file,
    require_relevant,
    split_pairs,
)
from embedft.evaluation.query_results import task_name
from embedft.evaluation.retrieval import RetrievalTask
from embedft.table.jsonl import OnBadRows, key_notes_of, refuse_pipe
from embedft.table.keys import Ints
from embedft.table.read_report import ReadCounts
from embedft.table.settings import ReadSettings, Target
from embedft.table.table import Table, read_table
from embedft.table.tokens import TokenStore, describe_truncation, distinct_texts

if TYPE_CHECKING:
    from embedft.encoder.encoder import Encoder

log = logging.getLogger(__name__)


class Source(Protocol):
    """The files of a run, and how they are read and split; see ``EmbeddingDataModule``."""

    input_jsonl: str
    validation_jsonl: str | None
    positive: Target
    on_bad_rows: OnBadRows
    train_split: float
    split_seed: int
    hard_negatives: int
    max_files_per_question: int | None
    cache_dir: Path


@dataclass(frozen=True, slots=True)
class FitData:
    """What a fit or an evaluation needs of its files.

    Attributes:
        tokens: The texts of all files.
        pairs: Pairs to train on, with the hard negatives that the file names.
        validation_pairs: Held-out pairs of the validation loss.
        searched_pairs: All training pairs and all held-out pairs: their positives are the corpus.
        task: Held-out questions against that corpus.
        needs_labels: The loss compares labelled pairs, so a batch has no in-batch negatives.
        shared: Texts that many files share; a question's rows are no negatives of each other.
        not_evaluated: (rows,) the held-out rows that have such a text.
        counts: What reading and splitting counted, for the report of the run.
        digests: The digest of each file, by its path.
    """

    tokens: TokenStore
    pairs: Pairs
    validation_pairs: Pairs
    searched_pairs: tuple[Pairs, Pairs]
    task: RetrievalTask
    needs_labels: bool
    shared: tuple[SharedText, ...]
    not_evaluated: Ints
    counts: dict[str, Any]
    digests: Mapping[str, str]

    @property
    def task_name(self) -> str:
        """Tells the retrieval task from that of other data."""
        return task_name(self.task, self.tokens.fingerprint)


def read_settings(
    encoder: Encoder, documents: Target, *, context_required: bool, negatives: bool = False
) -> ReadSettings:
    """How a file is read for an encoder: with its tokenizer, length limit and prompts."""
    backend = encoder.tokenizer.backend_tokenizer
    backend.no_truncation()  # settings of an earlier call are not part of the tokenizer
    backend.no_padding()
    return ReadSettings(
        tokenizer=backend.to_str(),
        max_seq_length=encoder.max_seq_length,
        truncation_side=encoder.tokenizer.truncation_side,
        query_prompt=encoder.query_text(""),
        document_prompt=encoder.document_text(""),
        lower_case=encoder.base.do_lower_case,
        documents=documents,
        context_required=context_required,
        negatives=negatives,
    )


def load_fit_data(source: Source, encoder: Encoder, *, needs_labels: bool, fits: bool) -> FitData:
    """Reads, tokenises and splits the files of a fit or an evaluation.

    Args:
        source: The files.
        encoder: Gives the tokenizer, the length limit and the prompts.
        needs_labels: The loss needs labels. If not, it trains on relevant pairs only.
        fits: The pairs are trained on. If not, a ``train_split`` of 0 holds out every row.

    Raises:
        InputError: The input can't be used; the message says where and why.
    """
    settings = _settings(source, encoder, source.positive)
    used, read = _read_input(source, settings, drop_duplicates=True)
    if source.max_files_per_question is not None:
        used = _without_shared_questions(used, source.max_files_per_question)
    digests = {source.input_jsonl: used[0].digest}
    if source.validation_jsonl is None:
        split = (source.train_split, source.split_seed)
        both = split_pairs(used, source.positive, *split, may_hold_out_all=not fits)
    else:
        validation, _ = _read(source, source.validation_jsonl, settings, drop_duplicates=True)
        digests[source.validation_jsonl] = validation[0].digest
        both = pairs_with_validation_file(used, validation, source.positive)
    counts = _counts(read, both)
    task = retrieval_task(both.train, both.held_out)
    pairs, validation_pairs = both.train, both.held_out
    if len(both.not_evaluated):
        is_evaluated = ~np.isin(validation_pairs.source_row, both.not_evaluated)
        validation_pairs = validation_pairs.only(is_evaluated)
    if pairs.labels is None or not needs_labels:
        validation_pairs = validation_pairs.only(validation_pairs.relevant)
    # The validation loss may draw negatives from the same file.
    validation_pairs = replace(validation_pairs, file_id=np.full(len(validation_pairs), -1))
    if fits:
        if pairs.labels is not None and not needs_labels:
            pairs = pairs.only(require_relevant(pairs, source.input_jsonl))
            counts["train_examples"] = len(np.unique(pairs.source_row))
        negatives = named_negatives(used[0], pairs, (both.train, both.held_out))
        pairs = replace(pairs, negatives=negatives)
    counts["texts_cut"] = describe_truncation(
        settings.max_seq_length, _shares_cut(both.tokens, source.positive, pairs, validation_pairs)
    )
    log.info("%s", counts["texts_cut"])
    return FitData(
        tokens=both.tokens,
        pairs=pairs,
        validation_pairs=validation_pairs,
        searched_pairs=(both.train, both.held_out),
        task=task,
        needs_labels=needs_labels,
        shared=both.shared,
        not_evaluated=both.not_evaluated,
        counts=counts,
        digests=digests,
    )


def load_table(source: Source, encoder: Encoder) -> Table:
    """Reads and tokenises the input file of a prediction: every row counts, also duplicates.

    Raises:
        InputError: The file can't be used.
    """
    settings = _settings(source, encoder, "answer")
    (table, _), _ = _read_input(source, settings, drop_duplicates=False)
    return table


def _settings(source: Source, encoder: Encoder, documents: Target) -> ReadSettings:
    return read_settings(
        encoder,
        documents,
        context_required=source.positive == "context",
        negatives=source.hard_negatives > 0,
    )


def _read_input(
    source: Source, settings: ReadSettings, *, drop_duplicates: bool
) -> tuple[TableRows, ReadCounts]:
    used, counts = _read(source, source.input_jsonl, settings, drop_duplicates=drop_duplicates)
    for problem in counts.problems:
        log.warning("%s", problem)
    return used, counts


def _read(
    source: Source, path: str, settings: ReadSettings, *, drop_duplicates: bool
) -> tuple[TableRows, ReadCounts]:
    """A table with its rows that are used, and what reading counted."""
    refuse_pipe(path)
    for is_warning, note in key_notes_of(path):
        log.log(logging.WARNING if is_warning else logging.INFO, "%s: %s", path, note)
    table = read_table(path, settings, source.cache_dir, source.on_bad_rows)
    rows = table.kept(drop_duplicates=drop_duplicates)
    counts = table.read_counts(drop_duplicates=drop_duplicates)
    log.info("%s", counts)
    return (table, rows), counts


def _without_shared_questions(used: TableRows, max_files: int) -> TableRows:
    """The rows whose questions at most this many files are asked."""
    table, rows = used
    kept = rows[count_files(row_hashes(table, rows)).question <= max_files]
    log.info(
        "max_files_per_question %d: %d of %d rows are dropped, because more files are asked their "
        "question",
        max_files,
        len(rows) - len(kept),
        len(rows),
    )
    return table, kept


def _counts(read: ReadCounts, both: TrainValidation) -> dict[str, Any]:
    """What reading and splitting counted, by the names in ``eval_results.json``."""
    train, held_out = both.n_rows
    return {
        "rows_read": read.rows,
        "rows_valid": read.valid,
        "rows_skipped": read.skipped,
        "exact_duplicates_dropped": read.duplicates,
        "repeated_questions": read.repeated_questions,
        "repeated_answers": read.repeated_answers,
        "train_examples": train,
        "eval_examples": held_out - len(both.not_evaluated),
    }


def _shares_cut(tokens: TokenStore, target: Target, *used: Pairs) -> dict[str, float]:
    """The share of the distinct texts of each kind that are longer than the limit."""
    texts = {
        "questions": distinct_texts(*(pairs.anchor for pairs in used)),
        " and ".join(target_names(target)): distinct_texts(*(pairs.positive for pairs in used)),
    }
    return {name: float(tokens.cut[chosen].mean()) for name, chosen in texts.items()}
