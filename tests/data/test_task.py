from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from embedft.data.pairs import Pairs
from embedft.data.task import retrieval_task
from embedft.errors import InputError


def pairs(
    numbers: list[tuple[int, int]], first_text: int = 0, relevant: list[bool] | None = None
) -> Pairs:
    """Pair i has texts 2i and 2i + 1; its question and answer have the ids of its numbers."""
    anchor = first_text + 2 * np.arange(len(numbers))
    ids: NDArray[np.int64] = np.array(numbers, dtype=np.int64).reshape(-1, 2)
    no_file = np.full(len(numbers), -1)
    return Pairs(
        anchor=anchor,
        positive=anchor + 1,
        anchor_hash=ids[:, 0].astype(np.uint64),
        positive_hash=ids[:, 1].astype(np.uint64),
        anchor_id=ids[:, 0],
        positive_id=ids[:, 1],
        file_id=no_file,
        relevant=np.ones(len(numbers), np.bool_) if relevant is None else np.array(relevant),
        labels=None,
        source_row=np.arange(len(numbers)),
    )


some_pairs = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=30)


@given(some_pairs, some_pairs, st.data())
def test_the_task_is_what_dictionaries_make(
    train: list[tuple[int, int]], held_out: list[tuple[int, int]], data: st.DataObject
) -> None:
    right = data.draw(st.lists(st.booleans(), min_size=len(held_out), max_size=len(held_out)))
    both = pairs(train), pairs(held_out, 1000, right)
    if not any(right):
        with pytest.raises(InputError, match="no held-out pair reaches"):
            retrieval_task(*both)
        return
    task = retrieval_task(*both)
    corpus: dict[int, int] = {}
    for part, numbers in zip(both, (train, held_out), strict=True):
        for (_, answer), text in zip(numbers, part.positive.tolist(), strict=True):
            corpus.setdefault(answer, text)
    queries: dict[int, int] = {}
    relevant: dict[int, set[int]] = {}
    for (question, answer), text, is_right in zip(
        held_out, both[1].anchor.tolist(), right, strict=True
    ):
        if is_right:
            queries.setdefault(question, text)
            relevant.setdefault(question, set()).add(corpus[answer])
    assert sorted(task.corpus.tolist()) == sorted(corpus.values())
    assert task.corpus_ids.tolist() == sorted(set(task.corpus_ids.tolist()))
    assert task.queries.tolist() == list(queries.values())
    found = [set(task.corpus[index].tolist()) for index in task.relevant]
    assert found == list(relevant.values())
    every_second = [index.tolist() for index in task.relevant[1::2]]
    assert every_second == [index.tolist() for index in list(task.relevant)[1::2]]
    texts = task.corpus[np.searchsorted(task.corpus_ids, both[1].positive_id)]
    assert texts.tolist() == [corpus[answer] for _, answer in held_out]
