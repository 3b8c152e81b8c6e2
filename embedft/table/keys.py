"""Equal texts as equal numbers, and what follows from them for rows.

A hash has 64 bits, and is 0 for an empty text. Among 100 million texts, two different ones share a
hash with a probability of 1 in 3,700. A dense id is a small number for a hash: from 0, or -1 for an
empty text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Hashes = NDArray[np.uint64]
Mask = NDArray[np.bool_]

NO_HASH = 0


def text_hashes(texts: Iterable[str]) -> Hashes:
    """(texts,) their hashes; 0 for an empty text."""
    digest = hashlib.blake2b
    parts = [digest(text.encode(), digest_size=8).digest() if text else bytes(8) for text in texts]
    return np.frombuffer(b"".join(parts), dtype="<u8").astype(np.uint64)


def combine_hashes(*columns: Hashes | int) -> Hashes:
    """(rows,) one hash of several columns; the order of the columns counts.

    Splitmix64 (Steele et al., 2014, doi:10.1145/2660193.2660195) of one column after the other.
    """
    state = np.zeros(1, dtype=np.uint64)
    for column in columns:
        state = (state ^ np.asarray(column, dtype=np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    return state


def repeats(values: Ints | Hashes) -> Mask:
    """(values,) True if an earlier value is equal."""
    in_order = np.sort(values)
    if not (in_order[1:] == in_order[:-1]).any():  # the usual case costs one fast sort
        return np.zeros(len(values), dtype=np.bool_)
    return np.asarray(first_equal(values) != np.arange(len(values)))


def first_equal(values: Ints | Hashes) -> Ints:
    """(values,) the index of the first value that equals each."""
    order, starts, lengths = _runs(values)
    first = np.empty(len(values), dtype=np.int64)
    if len(values):
        first[order] = np.repeat(np.minimum.reduceat(order, starts), lengths)
    return first


def dense_ids(hashes: Hashes) -> Ints:
    """(hashes,) ids from 0 in the order of the hashes, equal for equal ones; -1 for 0."""
    if not hashes.any():  # no row names a file
        return np.full(len(hashes), -1)
    order, starts, lengths = _runs(hashes)
    numbers = np.empty(len(hashes), dtype=np.int64)
    numbers[order] = np.repeat(np.arange(len(starts)), lengths)
    numbers[hashes == NO_HASH] = -1
    return numbers


def _runs(values: Ints | Hashes) -> tuple[Ints, Ints, Ints]:
    """An order in which equal values are neighbours, and the start and length of each run."""
    order = np.argsort(values)
    in_order = values[order]
    is_start = np.ones(len(values), dtype=np.bool_)
    np.not_equal(in_order[1:], in_order[:-1], out=is_start[1:])
    starts = np.flatnonzero(is_start)
    return order, starts, np.diff(starts, append=len(values))


def connected(*columns: Ints) -> Ints:
    """(rows,) the smallest row that is reachable over shared ids: the connected components.

    Each round attaches the tree of a row to the smallest of its neighbours and halves the paths
    (Zhang et al., 2020, arXiv:1910.05971). The number of rounds grows with the logarithm of the
    number of rows.

    Args:
        columns: (rows,) dense ids each. Rows with the same id in the same column are neighbours; a
            negative id has no neighbours.
    """
    component = np.arange(len(columns[0]))
    ties = [tie for column in columns if len((tie := _ties(column))[0])]
    while ties:
        attached = component.copy()
        for rows, starts, lengths in ties:
            roots = component[rows]
            least = np.repeat(np.minimum.reduceat(roots, starts), lengths)
            np.minimum.at(attached, roots, least)
            attached[rows] = np.minimum(attached[rows], least)
        attached = attached[attached]
        if np.array_equal(attached, component):
            break
        component = attached
    return component


def _ties(column: Ints) -> tuple[Ints, Ints, Ints]:
    """The rows whose id another row has, grouped by id; starts and lengths of the groups."""
    present = np.flatnonzero(column >= 0)
    counts = np.bincount(column[present])
    tied = present[counts[column[present]] > 1]
    order, starts, lengths = _runs(column[tied])
    return tied[order], starts, lengths
