"""The two sides of a fit: the pairs that are trained on, and those held out to measure."""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np

from embedft.data.pairs import Pairs, pairs_of, row_hashes
from embedft.data.split import all_held_out, drop_leaking_rows, split_rows
from embedft.errors import InputError
from embedft.table.keys import Ints, Mask
from embedft.table.settings import Positive
from embedft.table.table import Table
from embedft.table.tokens import TokenStore

log = logging.getLogger(__name__)


class Sides(NamedTuple):
    """Pairs of both sides, and their texts.

    Attributes:
        train: Pairs to train on.
        held_out: Pairs to measure.
        rows: How many rows each side's pairs are of; a row that gives answer and context gives two.
        tokens: The texts of both sides.
    """

    train: Pairs
    held_out: Pairs
    rows: tuple[int, int]
    tokens: TokenStore


def split_sides(
    table: Table,
    rows: Ints,
    positive: Positive,
    train_split: float,
    split_seed: int,
    *,
    may_hold_out_all: bool,
) -> Sides:
    """Some rows of a file are held out, in groups that cannot leak.

    Args:
        table: The file.
        rows: Its rows that are used.
        positive: What a question is trained to find.
        train_split: Share of rows to train on.
        split_seed: Another seed holds out other rows.
        may_hold_out_all: Whether a share of 0 holds out every row, else it is refused.

    Raises:
        InputError: The rows can't be split so.
    """
    keys = row_hashes(table, rows)
    if may_hold_out_all and train_split == 0:
        split = all_held_out(len(keys))
    else:
        split = split_rows(keys, train_split, split_seed)
    log.info("%s", split)
    return Sides(
        pairs_of(table, rows[split.train], positive),
        pairs_of(table, rows[split.validation], positive),
        (len(split.train), len(split.validation)),
        table.tokens,
    )


def sides_of_two(table: Table, rows: Ints, own: Table, own_rows: Ints, positive: Positive) -> Sides:
    """A validation set of one's own is held out; rows with a text of it are not trained on.

    Args:
        table: The file to train on.
        rows: Its rows that are used.
        own: The validation set.
        own_rows: Its rows that are used.
        positive: What a question is trained to find.

    Raises:
        InputError: Too few rows are left to train on.
    """
    stays, same_file = drop_leaking_rows(row_hashes(table, rows), row_hashes(own, own_rows))
    train = rows[stays]
    if len(train) < 2:
        raise InputError(
            f"{table.path}: {len(train)} row(s) are left to train on after leaving out "
            f"those whose question or answer stands in {own.path}; "
            "give other rows, or leave --validation_jsonl out"
        )
    log.info(
        "validation set of your own: %d rows; %d training rows left out because their question "
        "or answer stands in it, %d left",
        len(own_rows),
        len(rows) - len(train),
        len(train),
    )
    if same_file:
        log.warning("%d training rows share a file with your validation set", same_file)
    return Sides(
        pairs_of(table, train, positive),
        pairs_of(own, own_rows, positive).after(len(table.tokens.cut)),
        (len(train), len(own_rows)),
        table.tokens.joined(own.tokens),
    )


def labelled_right(train: Pairs, path: str) -> Mask:
    """(pairs,) those labelled as right, for a loss that knows no others.

    Args:
        train: Pairs to train on.
        path: Their file.

    Raises:
        InputError: Fewer than two are.
    """
    right = train.relevant
    count = np.count_nonzero(right)
    log.info("labels: %d pairs below 0.5 are not trained on", len(train) - count)
    if count < 2:
        raise InputError(
            f"{path}: label: fewer than 2 pairs reach 0.5, which this loss "
            "needs; try --loss_function CosineSimilarityLoss"
        )
    return right
