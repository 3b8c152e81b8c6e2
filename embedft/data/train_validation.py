"""Training pairs and held-out pairs: by a split of one file, or with a validation file."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from embedft.data.pairs import Pairs, TableRows, encode_pairs, row_hashes
from embedft.data.split import (
    MAX_FILES,
    all_held_out,
    drop_leaking_rows,
    split_rows,
    usual_max_files,
)
from embedft.data.ties import RowHashes, SharedText, problems, shared_texts
from embedft.errors import InputError
from embedft.table.jsonl import stream_records
from embedft.table.keys import Ints, Mask
from embedft.table.read_report import ReadCounts
from embedft.table.settings import Target
from embedft.table.tokens import TokenStore

log = logging.getLogger(__name__)


class TrainValidation(NamedTuple):
    """Training pairs, held-out pairs, and their texts.

    Attributes:
        train: Pairs to train on.
        held_out: Pairs to evaluate on.
        n_rows: Rows that the training and the held-out pairs come from. A row that gives answer and
            context gives two pairs.
        tokens: The texts of both.
        shared: Texts that many files share. Held-out rows with one are not relevant to their
            question, so that they are searched, but not evaluated.
        not_evaluated: (rows,) those held-out rows of the file.
    """

    train: Pairs
    held_out: Pairs
    n_rows: tuple[int, int]
    tokens: TokenStore
    shared: tuple[SharedText, ...] = ()
    not_evaluated: Ints = np.arange(0)


def split_pairs(
    used: TableRows,
    target: Target,
    train_split: float,
    split_seed: int,
    *,
    may_hold_out_all: bool,
) -> TrainValidation:
    """Holds out rows of a file, in groups that cannot leak.

    Args:
        used: The file, and its rows that are used.
        target: What a question is trained to find.
        train_split: Share of rows to train on.
        split_seed: Another seed holds out other rows.
        may_hold_out_all: A share of 0 holds out every row. If not, it is refused.

    Raises:
        InputError: The rows can't be split so.
    """
    table, rows = used
    hashes = row_hashes(table, rows, target)
    if may_hold_out_all and train_split == 0:
        split = all_held_out(len(hashes))
    else:
        try:
            split = split_rows(hashes, train_split, split_seed)
        except InputError as error:
            if named := "; ".join(map(str, _shared(used, hashes, min(MAX_FILES), target))):
                raise InputError(f"{error}. Rewrite what many files share: {named}") from None
            raise
    shared = _shared(used, hashes, split.max_files, target)
    names = f": {', '.join(map(str, shared))}" if shared else ""
    log.info("%s%s", split, names)
    for problem in problems(shared, target):
        log.warning("%s", problem)
    not_evaluated = rows[split.not_evaluated]
    if len(not_evaluated):
        log.warning(
            "%d of the %d held-out rows are not evaluated: other rows with their question or "
            "answer may be trained on",
            len(not_evaluated),
            len(split.validation),
        )
    train, held_out = encode_pairs(
        (table, rows[split.train]), (table, rows[split.validation]), target
    )
    relevant = held_out.relevant & ~np.isin(held_out.source_row, not_evaluated)
    return TrainValidation(
        train,
        replace(held_out, relevant=relevant),
        (len(split.train), len(split.validation)),
        table.tokens,
        shared,
        not_evaluated,
    )


def _shared(
    used: TableRows, hashes: RowHashes, max_files: int | None, target: Target
) -> tuple[SharedText, ...]:
    """What more than ``max_files`` files share."""
    path, context_required = used[0].path, target == "context"
    records = stream_records(path, ReadCounts(path), context_required=context_required)
    return shared_texts(hashes, max_files, used[1], records)


def pairs_with_validation_file(
    used: TableRows, validation: TableRows, target: Target
) -> TrainValidation:
    """Holds out a validation file; rows that share a text with it are not trained on.

    Args:
        used: The file to train on, and its rows that are used.
        validation: The validation file, and its rows that are used.
        target: What a question is trained to find.

    Raises:
        InputError: Too few rows are left to train on.
    """
    table, rows = used
    kept, same_file = drop_leaking_rows(row_hashes(table, rows), row_hashes(*validation))
    train = rows[kept]
    if len(train) < 2:
        raise InputError(
            f"{table.path}: only {len(train)} rows are left to train on: the question or answer of "
            f"all others also occurs in {validation[0].path}. Give other rows, or leave out "
            "--validation_jsonl"
        )
    n_validation = len(validation[1])
    log.info(
        "validation file: %d rows. Training rows: %d; left out: %d, because their question or "
        "answer also occurs in the validation file",
        n_validation,
        len(train),
        len(rows) - len(train),
    )
    if same_file:
        log.warning("%d training rows share a file with the validation file", same_file)
    hashes = row_hashes(table, train, target)
    shared = _shared((table, train), hashes, usual_max_files(hashes), target)
    for problem in problems(shared, target):
        log.warning("%s", problem)
    return TrainValidation(
        *encode_pairs((table, train), validation, target),
        (len(train), n_validation),
        table.tokens.joined(validation[0].tokens),
        shared,
    )


def require_relevant(train: Pairs, path: str) -> Mask:
    """(pairs,) the relevant pairs, for a loss that trains on no others.

    Args:
        train: Pairs to train on.
        path: Their file.

    Raises:
        InputError: Fewer than two are relevant.
    """
    count = np.count_nonzero(train.relevant)
    log.info("labels: %d pairs below 0.5 are not trained on", len(train) - count)
    if count < 2:
        raise InputError(
            f"{path}: label: fewer than 2 pairs reach 0.5, which this loss "
            "needs; try --loss_function CosineSimilarityLoss"
        )
    return train.relevant
