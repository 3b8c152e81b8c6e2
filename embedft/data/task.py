"""The retrieval task that judges a model: held-out questions against all distinct answers."""

from __future__ import annotations

import numpy as np

from embedft.data.pairs import TrainRows
from embedft.errors import InputError
from embedft.evaluation.retrieval import Relevant, RetrievalTask
from embedft.table.keys import Mask, first_equal


def retrieval_task(train: TrainRows, validation: TrainRows, right: Mask) -> RetrievalTask:
    """Held-out questions against all distinct positives of the whole set.

    Of equal questions, and of equal positives, the first text stands for all.

    Args:
        train: The pairs of the training side, those that are not trained on included.
        validation: Held-out pairs.
        right: (held-out pairs,) the pair's positive is a right answer.

    Raises:
        InputError: No held-out question has a right answer.
    """
    if not right.any():
        raise InputError(
            "label: no held-out pair reaches 0.5, so nothing can be measured; bring some "
            "by --validation_jsonl, or hold others out by --data.split_seed 1"
        )
    text = np.concatenate([train.positive, validation.positive])
    key = np.concatenate([train.positive_id, validation.positive_id])
    first = np.full(int(key.max()) + 1, len(key))
    np.minimum.at(first, key, np.arange(len(key)))
    corpus_ids = np.flatnonzero(first < len(key))
    rows = np.flatnonzero(right)
    first_row = first_equal(validation.anchor_id[rows])
    is_query = first_row == np.arange(len(rows))
    query = (np.cumsum(is_query) - 1)[first_row]
    place = np.searchsorted(corpus_ids, validation.positive_id[rows])
    query, place = np.divmod(np.unique(query * len(corpus_ids) + place), len(corpus_ids))
    return RetrievalTask(
        queries=validation.anchor[rows[is_query]],
        corpus=text[first[corpus_ids]],
        corpus_ids=corpus_ids,
        relevant=Relevant(place, np.append(0, np.cumsum(np.bincount(query)))),
        source_rows=validation.source_row[rows[is_query]],
    )
