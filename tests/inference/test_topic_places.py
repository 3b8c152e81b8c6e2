from __future__ import annotations

from pathlib import Path

import numpy as np

from embedft.data.datamodule import EmbeddingDataModule
from embedft.encoder.encoder import Encoder
from embedft.inference.embed import Embeddings, one_device_trainer
from embedft.inference.topics import pair_topic_positions


def test_a_topic_is_of_both_texts(pairs: Path, tiny_model: Path) -> None:
    """In fours of rows a, b, c, d one text of a and b is equal, and of c and d; the other one of a
    and c is alike, and of b and d. The one is the question in half of the fours, else the answer.
    """
    data, encoder = EmbeddingDataModule(str(pairs), train_split=0.8), Encoder(str(tiny_model))
    data.load(encoder, False)
    rows = len(data.pairs)
    fours, place = np.divmod(np.arange(rows), 4)
    equal, alike = np.zeros((2, rows, rows // 4 + 1, 8), dtype=np.float32)
    equal[np.arange(rows), fours, place // 2] = 1
    alike[np.arange(rows), fours, 2 + place % 2] = 0.6**0.5
    alike[np.arange(rows), fours, 4 + place] = 0.4**0.5
    equal, alike = equal.reshape(rows, -1), alike.reshape(rows, -1)
    by_question = (fours % 2 == 0)[:, None]
    question_RD = 10 * np.where(by_question, equal, alike)  # lengths must not count
    answer_RD = np.where(by_question, alike, equal)
    texts = np.concatenate([data.pairs.anchor, data.pairs.positive])
    assert len(np.unique(texts)) == len(texts)
    table = np.concatenate([question_RD, answer_RD])[np.argsort(texts)]
    known = Embeddings(np.sort(texts), table)

    places = pair_topic_positions(encoder, data, one_device_trainer("cpu", "32-true"), known)
    order = np.argsort(places)
    assert sorted(order) == list(range(rows))
    both = {frozenset(two) for two in order[: rows // 2 * 2].reshape(-1, 2).tolist()}
    wanted = {frozenset({row, row + 1}) for row in range(0, rows // 4 * 4, 2)}
    assert len(wanted - both) <= 1  # an odd row out shifts the rest


def test_texts_are_embedded_where_mining_has_not(pairs: Path, tiny_model: Path) -> None:
    data, encoder = EmbeddingDataModule(str(pairs), train_split=0.8), Encoder(str(tiny_model))
    data.load(encoder, False)
    trainer = one_device_trainer("cpu", "32-true")
    places = pair_topic_positions(encoder, data, trainer, None)
    assert sorted(places) == list(range(len(data.pairs)))
    assert np.array_equal(places, pair_topic_positions(encoder, data, trainer, None))
