"""A JSONL file as columns of numbers on disk: made in one pass, then memory-mapped."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from embedft.table.build import BLOCK_BYTES, build_table, read_meta
from embedft.table.columns import column_path, open_column
from embedft.table.jsonl import OnBadRows, unreadable_error
from embedft.table.keys import Hashes, Ints, Mask
from embedft.table.negatives import Negatives
from embedft.table.read_report import ReadCounts
from embedft.table.settings import ReadSettings
from embedft.table.tokens import MappedIds, TokenStore
from embedft.tools.files import sync_files, sync_folder

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Table:
    """The valid rows of a file in its order, including exact duplicates, and its distinct texts.

    Attributes:
        path: The file.
        counts: ``rows_read``, ``skipped``, ``bad_rows``, ``same_ids``, ``duplicates``,
            ``distinct_questions``, ``distinct_answers``, ``first_without_label`` (a line, 0 if
            none).
        question: (rows,) int64, index of the question's text.
        answer: (rows,) int64, index of the answer's text; None if answers are not tokenised.
        context: (rows,) int64, index of the context's text, -1 for none; None if contexts are not
            tokenised.
        question_hash: (rows,) hashes of the normalised questions.
        answer_hash: (rows,) hashes of the normalised answers.
        context_hash: (rows,) hashes of the normalised contexts, 0 for none; None if contexts are
            not tokenised.
        file_hash: (rows,) hashes of the file names, 0 for none.
        label: (rows,) float64, NaN for none; None if no row has one.
        duplicate: (rows,) whether an earlier row is equal in every field but ``id``.
        negatives: The negatives of the rows; None if there are none or they are not asked for.
        tokens: The token ids of the texts.
    """

    path: str
    counts: dict[str, Any]
    question: Ints
    answer: Ints | None
    context: Ints | None
    question_hash: Hashes
    answer_hash: Hashes
    context_hash: Hashes | None
    file_hash: Hashes
    label: NDArray[np.float64] | None
    duplicate: Mask
    negatives: Negatives | None
    tokens: TokenStore

    def __len__(self) -> int:
        return len(self.question)

    @property
    def digest(self) -> str:
        """The digest of the file's bytes."""
        return self.tokens.fingerprint.rpartition("-")[2]

    def kept(self, *, drop_duplicates: bool) -> Ints:
        """(kept,) the rows that are used, ascending.

        Raises:
            InputError: Only a part of them has a label.
        """
        rows = np.arange(len(self))
        if drop_duplicates and self.counts["duplicates"]:
            rows = np.flatnonzero(~self.duplicate)
        if self.label is not None:
            labelled = len(rows) - int(np.isnan(self.label[rows]).sum())
            first = self.counts["first_without_label"]
            self.read_counts(drop_duplicates=drop_duplicates).check_labels(
                labelled, len(rows), first
            )
        return rows

    def read_counts(self, *, drop_duplicates: bool) -> ReadCounts:
        """What reading counted."""
        duplicates = self.counts["duplicates"] if drop_duplicates else 0
        used = len(self) - duplicates
        return ReadCounts(
            self.path,
            rows=self.counts["rows_read"],
            skipped=self.counts["skipped"],
            duplicates=duplicates,
            repeated_questions=used - self.counts["distinct_questions"],
            repeated_answers=used - self.counts["distinct_answers"],
            bad_rows=[(line, what) for line, what in self.counts["bad_rows"]],
            same_ids=self.counts.get("same_ids", []),  # older caches have none
        )


def read_table(
    path: str,
    settings: ReadSettings,
    cache_dir: Path | None,
    on_bad_rows: OnBadRows = "error",
    *,
    block_bytes: int = BLOCK_BYTES,
    workers: int | None = None,
) -> Table:
    r"""Reads, validates, hashes and tokenises a file, or finds its table in the cache.

    The file is a stream of bytes, split only on ``\n`` (RFC 8259 texts may hold U+2028). A UTF-8
    byte order mark, ``\r\n`` and blank lines are accepted. The file is read once. If the cache
    knows a file of its size, it is hashed first.

    Args:
        path: The file.
        settings: What is read and how it is tokenised.
        cache_dir: Folder of the cache; None keeps a temporary folder while the table is used.
        on_bad_rows: ``error`` refuses a file with bad rows, ``skip`` leaves them out.
        block_bytes: Bytes read at a time.
        workers: Processes that read; None takes all cores for a large file, and this process for a
            small one.

    Raises:
        InputError: The file can't be read, has bad rows under ``error``, or no valid row.
    """
    table = _read_table(path, settings, cache_dir, on_bad_rows == "error", block_bytes, workers)
    if warning := table.read_counts(drop_duplicates=False).same_ids_problem:
        log.warning("%s", warning)
    return table


def _read_table(
    path: str,
    settings: ReadSettings,
    cache_dir: Path | None,
    strict: bool,
    block_bytes: int,
    workers: int | None,
) -> Table:
    def build(folder: Path) -> Table:
        digest = build_table(
            Path(path),
            settings,
            folder,
            refuse_bad_rows=strict,
            block_bytes=block_bytes,
            workers=workers,
        )
        table = _open(path, folder, f"{_prefix(path, settings)}{digest}", verify=False)
        log.info("tokens: %d texts, %d tokens", len(table.tokens.cut), len(table.tokens.ids))
        return table

    def find() -> Table | None:
        if cache_dir is None or (cached := _find(path, settings, cache_dir)) is None:
            return None
        cached.read_counts(drop_duplicates=False).check(len(cached), refuse_bad_rows=strict)
        return cached

    if cache_dir is not None:
        if (cached := find()) is not None:
            return cached
        try:
            cache_dir.mkdir(parents=True, exist_ok=True)
            # Another rank of this host may read the same file: the others wait and find it cached.
            with (
                FileLock(cache_dir / f".{_prefix(path, settings)}.lock"),
                _staging_folder(cache_dir) as folder,
            ):
                if (cached := find()) is not None:
                    return cached
                fingerprint = build(folder).tokens.fingerprint
                _publish(path, folder, cache_dir / fingerprint)
            return _open(path, cache_dir / fingerprint, fingerprint, verify=False)
        except OSError as error:
            log.warning(
                "tokens: the cache %s can't be written (%s). Continuing without it",
                cache_dir,
                error,
            )
    temporary = Path(tempfile.mkdtemp(prefix="embedft-"))
    try:
        table = build(temporary)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    weakref.finalize(table.tokens.ids, shutil.rmtree, temporary, ignore_errors=True)
    return table


def _prefix(path: str, settings: ReadSettings) -> str:
    """The fingerprint without the content of the file: without a match the file was never read."""
    try:
        size = Path(path).stat().st_size
    except OSError as error:
        raise unreadable_error(Path(path), error) from None
    return f"{settings.digest()}-{size}-"


def _find(path: str, settings: ReadSettings, cache_dir: Path) -> Table | None:
    """The table in the cache, if it is there and undamaged."""
    prefix = _prefix(path, settings)
    if not any(cache_dir.glob(f"{prefix}*")):
        return None
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as stream:
            while piece := stream.read(BLOCK_BYTES):
                digest.update(piece)
    except OSError as error:
        raise unreadable_error(Path(path), error) from None
    folder = cache_dir / f"{prefix}{digest.hexdigest()[:24]}"
    try:
        table = _open(path, folder, folder.name)
    except Exception:  # whatever a damaged folder raises, its table is not there
        return None
    log.info("tokens: %d texts from the cache %s", len(table.tokens.cut), folder)
    return table


def _open(path: str, folder: Path, fingerprint: str, *, verify: bool = True) -> Table:
    """The table in a folder, memory-mapped; one that was just written need not be verified.

    Raises:
        OSError: A file is missing.
        ValueError: A file is damaged; or KeyError or TypeError.
    """
    counts = read_meta(folder, verify=verify)
    layout = counts.pop("columns")
    columns = {name: open_column(folder, name, *layout[name]) for name in layout}
    tokens = TokenStore(
        MappedIds(column_path(folder, "ids"), layout["ids"][0]),
        columns["offsets"],
        columns["cut"],
        fingerprint,
    )
    return Table(
        path=path,
        counts=counts,
        question=columns["question"],
        answer=columns.get("answer"),
        context=columns.get("context"),
        question_hash=columns["question_key"],
        answer_hash=columns["answer_key"],
        context_hash=columns.get("context_key"),
        file_hash=columns["file_key"],
        label=columns.get("label"),
        duplicate=columns["duplicate"],
        negatives=_negatives(columns),
        tokens=tokens,
    )


def _negatives(columns: dict[str, NDArray[Any]]) -> Negatives | None:
    if "negative" not in columns:
        return None
    offsets = np.append(0, np.cumsum(columns["negatives"]))
    return Negatives(columns["negative"], columns["negative_key"], offsets)


@contextmanager
def _staging_folder(cache_dir: Path) -> Iterator[Path]:
    """A folder in the cache that is removed afterwards, unless it was renamed."""
    folder = Path(tempfile.mkdtemp(dir=cache_dir, prefix=".writing-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _publish(path: str, folder: Path, final: Path) -> None:
    """Renames in one step; if another process was faster, its table stays."""
    if final.exists():
        try:
            _open(path, final, final.name)
        except Exception:  # as above
            shutil.rmtree(final, ignore_errors=True)
        else:
            return
    sync_files(folder)
    os.replace(folder, final)
    sync_folder(final.parent)
