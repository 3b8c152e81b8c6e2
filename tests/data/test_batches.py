from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numbered_pairs import numbered_pairs

from embedft.data.batches import (
    EpochBatches,
    FromPosition,
    TextBatches,
    step_seed,
)
from embedft.data.datamodule import EmbeddingDataModule
from embedft.data.negative_sampling import draw_negatives
from embedft.data.plan import plan_epoch
from embedft.table.negatives import Negatives
from embedft.table.tokens import TokenStore


def test_step_seeds_differ() -> None:
    seeds = {
        step_seed(s, e, i, r)
        for s in range(3)
        for e in range(3)
        for i in range(9)
        for r in range(3)
    }
    assert len(seeds) == 243
    assert all(0 <= seed < 2**63 for seed in seeds)


def store(texts: int) -> TokenStore:
    """Text i is i + 1 tokens, all of them i."""
    lengths = np.arange(1, texts + 1)
    ids = np.repeat(np.arange(texts), lengths).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return TokenStore(ids, offsets, np.zeros(texts, np.bool_), "")


@pytest.mark.parametrize("rows", [12, 13, 15])
def test_ranks_share_a_batch(rows: int) -> None:
    """All rows of an odd one too, and where it is shorter than the ranks are many."""
    data = numbered_pairs([-1] * rows)
    plan = plan_epoch(data.anchor_id, data.positive_id, batch_size=4, seed=0, epoch=0)
    for index in range(len(plan)):
        shares = [
            EpochBatches(data, plan, store(rows), seed=0, epoch=0, rank=rank, world_size=4)[index]
            for rank in range(4)
        ]
        rows_of_all = [row for share in shares for row in share.pairs.tolist()]
        assert sorted(rows_of_all) == sorted(plan[index].tolist())
        assert shares[0].pairs_per_rank == tuple(len(share.pairs) for share in shares)
        assert all(share.pairs_per_rank == shares[0].pairs_per_rank for share in shares)
        assert len({share.seed for share in shares}) == 4
        assert all(len(share.lengths) == 2 * max(1, len(share.pairs)) for share in shares)


def test_ranks_have_like_loads() -> None:
    """Text i has i + 1 tokens: shares as drawn would differ by hundreds."""
    data = numbered_pairs([-1] * 256)
    plan = plan_epoch(data.anchor_id, data.positive_id, batch_size=64, seed=0, epoch=0)
    for index in range(len(plan)):
        tokens = [
            len(
                EpochBatches(data, plan, store(256), seed=0, epoch=0, rank=r, world_size=4)[
                    index
                ].input_ids
            )
            for r in range(4)
        ]
        assert max(tokens) - min(tokens) < 0.02 * max(tokens)


def test_batch_is_anchors_then_positives_then_negatives() -> None:
    data = numbered_pairs([-1] * 6)
    plan = plan_epoch(data.anchor_id, data.positive_id, batch_size=3, seed=0, epoch=2)
    batch = EpochBatches(
        data, plan, store(6), seed=5, epoch=2, negatives_per_pair=2, pairwise_negatives=True
    )[1]
    rows = batch.pairs.tolist()
    drawn = draw_negatives(data, plan[1], 2, 5, (2, 1)).ravel().tolist()
    assert batch.lengths.tolist() == [row + 1 for row in [*rows, *rows, *drawn]]
    assert batch.input_ids.tolist() == [
        row for row in [*rows, *rows, *drawn] for _ in range(row + 1)
    ]
    assert (batch.epoch, batch.batch_index, batch.labels) == (2, 1, None)


def test_text_batches_cover_all_texts_over_ranks() -> None:
    texts = np.array([3, 1, 4, 0, 9, 2, 6])
    seen = []
    for rank in range(3):
        batches = TextBatches(store(10), texts, 2, rank, 3)
        for index in range(len(batches)):
            batch = batches[index]
            assert sorted(batch.lengths.tolist(), reverse=True) == batch.lengths.tolist()
            seen += batch.texts.tolist()
    assert sorted(seen) == sorted(texts)


def test_from_position_starts_late_and_tells_the_whole_length() -> None:
    sampler = FromPosition(7, 4)
    assert list(sampler) == [4, 5, 6]
    assert len(sampler) == 7


def test_lengths_stay_on_the_cpu() -> None:
    batch = TextBatches(store(6), np.arange(6), 4)[0]
    data = EmbeddingDataModule("pairs.jsonl")
    moved = data.transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert moved.input_ids.device.type == moved.texts.device.type == "meta"
    assert moved.lengths is batch.lengths


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=40),
    st.integers(0, 2),
    st.integers(1, 3),
    st.integers(0, 3),
)
def test_no_right_answer_counts_as_wrong(
    pairs: list[tuple[int, int]], hard: int, world_size: int, seed: int
) -> None:
    """Whatever row an answer came with, and whether as a positive or as a hard negative."""
    anchor, positive = (list(texts) for texts in zip(*pairs, strict=True))
    count = len(pairs)
    rows = numbered_pairs([-1] * count, anchor, positive)
    if hard:
        some = np.random.default_rng(seed).integers(-1, count, size=(count, 3))
        found = Negatives.of_pairs(some, rows.positive, rows.positive_id)
        rows = replace(rows, negatives=found)
    right = set(zip(rows.anchor_id.tolist(), rows.positive_id.tolist(), strict=True))
    plan = plan_epoch(rows.anchor_id, rows.positive_id, batch_size=8, seed=seed, epoch=0)
    for index in range(len(plan)):
        batches = [
            EpochBatches(
                rows,
                plan,
                store(count),
                seed=seed,
                epoch=0,
                rank=rank,
                world_size=world_size,
                hard_negatives=hard,
            )[index]
            for rank in range(world_size)
        ]
        batch = np.concatenate([part.pairs.numpy() for part in batches])
        answers = rows.positive_id[batch].tolist()
        if hard:
            assert rows.negatives is not None
            text, key = rows.negatives.of_epoch(batch, hard, 0)
            answers += np.where(text.ravel() < 0, -1, key.ravel()).tolist()
        for part in batches:
            if part.candidates is None:
                mask = torch.ones(len(batch), len(answers), dtype=torch.bool)
            else:
                mask = part.candidates.mask
            for i, row in enumerate(batch):
                question, own = int(rows.anchor_id[row]), int(rows.positive_id[row])
                counted = [a for a, counts in zip(answers, mask[i], strict=True) if counts]
                assert mask[i, i]
                assert counted.count(own) == 1
                others = {answer for answer in counted if answer != own}
                wrong = {a for a in answers if a >= 0 and (question, a) not in right}
                assert others == wrong


def test_batches_without_a_further_right_answer_need_no_mask() -> None:
    rows = numbered_pairs([-1] * 6)
    plan = plan_epoch(rows.anchor_id, rows.positive_id, batch_size=3, seed=0, epoch=0)
    assert EpochBatches(rows, plan, store(6), seed=0, epoch=0)[0].candidates is None
