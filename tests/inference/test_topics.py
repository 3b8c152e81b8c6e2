from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from embedft.data.plan import plan_epoch
from embedft.inference.topics import topic_positions


def greedy(alike: torch.Tensor) -> set[tuple[int, int]]:
    """One pair after the other, always the two that are most alike."""
    alike = alike.double().fill_diagonal_(-2)
    found = set()
    for _ in range(len(alike) // 2):
        one, other = divmod(int(alike.argmax()), len(alike))
        found.add((min(one, other), max(one, other)))
        alike[[one, other]] = alike[:, [one, other]] = -2
    return found


@pytest.mark.parametrize("rows", [2, 4, 16, 64, 256])
@pytest.mark.parametrize("seed", [0, 1])
def test_neighbours_are_a_greedy_matching(rows: int, seed: int) -> None:
    """Of rows, and then of pairs of rows by their sums."""
    vectors = torch.randn(rows, 8, generator=torch.Generator().manual_seed(seed))
    vectors = functional.normalize(vectors, dim=-1)
    order = np.argsort(topic_positions(vectors))
    assert sorted(order) == list(range(rows))
    paired = {(min(two), max(two)) for two in order.reshape(-1, 2).tolist()}
    assert paired == greedy(vectors @ vectors.T)
    if rows > 2:
        named = sorted(paired)
        sums = functional.normalize(torch.stack([vectors[list(two)].sum(0) for two in named]))
        fours = {tuple(sorted(four)) for four in order.reshape(-1, 4).tolist()}
        assert fours == {tuple(sorted((*named[a], *named[b]))) for a, b in greedy(sums @ sums.T)}


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 100, 3000])
def test_equal_vectors(rows: int) -> None:
    places = topic_positions(torch.ones(rows, 4))
    assert sorted(places) == list(range(rows))


def test_a_batch_is_of_few_topics() -> None:
    """Ten well separated topics of 64 rows: a batch of 16 holds at most three, usually one or two."""
    rng = np.random.default_rng(0)
    topic = rng.permutation(np.repeat(np.arange(10), 64))
    vectors = np.eye(10, 32, dtype=np.float32)[topic] + 0.01 * rng.normal(size=(640, 32))
    place = topic_positions(torch.from_numpy(vectors.astype(np.float32)))
    ids, batches = np.arange(640), set()
    for epoch in range(2):
        plan = plan_epoch(ids, ids, batch_size=16, seed=0, epoch=epoch, topic_position=place)
        held = [len(set(topic[plan[index]])) for index in range(len(plan))]
        assert len(held) == 40
        assert max(held) <= 3
        assert np.mean(held) < 2
        batches |= {frozenset(plan[index].tolist()) for index in range(len(plan))}
    assert len(batches) == 80
    at_random = plan_epoch(ids, ids, batch_size=16, seed=0, epoch=0)
    assert np.mean([len(set(topic[at_random[index]])) for index in range(40)]) > 6


def test_the_most_alike_share_a_batch_in_each_epoch() -> None:
    """A document's two rows stand together; only where a batch ends within a piece they may not."""
    generator = torch.Generator().manual_seed(0)
    documents = torch.randn(320, 32, generator=generator).repeat(2, 1)
    vectors = documents + 0.3 * torch.randn(640, 32, generator=generator)
    place = topic_positions(functional.normalize(vectors, dim=-1))
    ids = np.arange(640)
    for epoch in range(3):
        plan = plan_epoch(ids, ids, batch_size=64, seed=0, epoch=epoch, topic_position=place)
        batch_of = np.repeat(np.arange(10), 64)[np.argsort(plan.pairs)]
        assert np.mean(batch_of[:320] == batch_of[320:]) > 0.95
