"""The split of a file as ``fit`` makes it, with texts, for scripts that train with other tools."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from embedft.data.pairs import row_hashes
from embedft.data.split import split_rows
from embedft.table.jsonl import stream_records
from embedft.table.keys import Ints
from embedft.table.read_report import ReadCounts
from embedft.table.record import Record
from embedft.table.settings import ReadSettings
from embedft.table.table import read_table


def split_file(path: str, train_split: float, seed: int) -> tuple[list[Record], Ints, Ints]:
    """The rows of a file without exact duplicates, and which of them are held out.

    Args:
        path: A JSONL file without bad rows.
        train_split: Share of rows to train on, between 0 and 1.
        seed: Another seed holds out other rows.

    Returns:
        The rows in file order; the indices of those to train on, and of those held out.

    Raises:
        InputError: The file can't be used.
    """
    one_token_per_text = str(Tokenizer(WordLevel({"?": 0}, unk_token="?")).to_str())
    table = read_table(path, ReadSettings(one_token_per_text, 1), cache_dir=None)
    used = table.kept(drop_duplicates=True)
    split = split_rows(row_hashes(table, used), train_split, seed)
    records = list(stream_records(path, ReadCounts(path)))
    kept = [records[row] for row in used.tolist()]
    evaluated = np.setdiff1d(split.validation, split.not_evaluated)
    return kept, np.asarray(split.train), evaluated
