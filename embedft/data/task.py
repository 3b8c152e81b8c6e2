"""The retrieval task that judges a model: held-out questions against all distinct answers."""

from __future__ import annotations

import numpy as np

from embedft.data.pairs import Pairs
from embedft.errors import InputError
from embedft.evaluation.retrieval import Relevant, RetrievalTask
from embedft.table.keys import connected, first_equal


def retrieval_task(train: Pairs, held_out: Pairs) -> RetrievalTask:
    """Held-out questions against all distinct positives of training and held-out pairs.

    Of equal questions, and of equal positives, the task takes the first text.

    Args:
        train: All pairs of the training rows, also those that are not trained on.
        held_out: Held-out pairs.

    Raises:
        InputError: No held-out question has a relevant answer.
    """
    relevant = held_out.only(held_out.relevant)
    if not len(relevant):
        raise InputError(
            "label: no held-out pair reaches 0.5, so nothing can be evaluated. Give "
            "relevant pairs with --validation_jsonl, or hold out others with --data.split_seed 1"
        )
    text = np.concatenate([train.positive, held_out.positive])
    text_id = np.concatenate([train.positive_id, held_out.positive_id])
    first = np.full(int(text_id.max()) + 1, len(text_id))
    np.minimum.at(first, text_id, np.arange(len(text_id)))
    corpus_ids = np.flatnonzero(first < len(text_id))
    first_pair = first_equal(relevant.anchor_id)
    is_query = first_pair == np.arange(len(relevant))
    query = (np.cumsum(is_query) - 1)[first_pair]
    document = np.searchsorted(corpus_ids, relevant.positive_id)
    query, document = np.divmod(np.unique(query * len(corpus_ids) + document), len(corpus_ids))
    return RetrievalTask(
        queries=relevant.anchor[is_query],
        corpus=text[first[corpus_ids]],
        corpus_ids=corpus_ids,
        relevant=Relevant(document, np.append(0, np.cumsum(np.bincount(query)))),
        source_rows=relevant.source_row[is_query],
        groups=connected(relevant.anchor_id, relevant.positive_id, relevant.file_id)[is_query],
    )
