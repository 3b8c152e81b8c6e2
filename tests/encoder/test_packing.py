from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from embedft.encoder.packing import _BLOCK_COST, PackedLayout, _merge_groups, block_length

text_lengths = st.lists(st.integers(1, 60), min_size=1, max_size=40)


def layout_of(lengths: list[int]) -> PackedLayout:
    return PackedLayout.from_lengths(torch.tensor(lengths), torch.device("cpu"))


@given(text_lengths)
def test_every_token_has_its_place(lengths: list[int]) -> None:
    """Token i of the batch is named by (text, place in the text)."""
    names = [(text, place) for text, length in enumerate(lengths) for place in range(length)]
    layout = layout_of(lengths)
    assert layout.lengths.tolist() == sorted(lengths, reverse=True)
    packed = [names[token] for token in layout.token_index]
    expected = [(t, place) for t in layout.order.tolist() for place in range(lengths[t])]
    assert packed == expected
    assert layout.position_ids.tolist() == [place for _, place in packed]
    assert [layout.order[text] for text in layout.text_of_token] == [text for text, _ in packed]


@given(text_lengths, st.integers(1, 3))
def test_blocks_hold_each_head_once(lengths: list[int], heads: int) -> None:
    layout = layout_of(lengths)
    index = layout.head_index(heads)
    rows = len(layout.token_index) * heads
    assert torch.equal(index.blocks[index.rows], torch.arange(rows))
    places = torch.cat([index.rows, index.padding]).sort().values
    assert torch.equal(places, torch.arange(len(index.blocks)))
    assert layout.head_index(heads) is index


def test_lengths_of_blocks_are_few() -> None:
    lengths = {block_length(length) for length in range(1, 513)}
    assert len(lengths) == 16 + 24
    assert all(length <= block_length(length) < length + 16 for length in range(1, 513))
    assert [block_length(length) for length in (1, 8, 9, 128, 129, 512)] == [
        8,
        8,
        16,
        128,
        144,
        512,
    ]


@pytest.mark.parametrize(
    ("lengths", "blocks"),
    [
        ([384] * 8 + [300], [(8, 384), (1, 304)]),  # one text more of 384 would cost more
        ([40, 38, 30, 20], [(4, 40)]),
        ([40] * 9 + [20] * 9, [(9, 40), (9, 24)]),
        ([40] + [20] * 3, [(4, 40)]),
    ],
)
def test_few_texts_share_a_block(
    lengths: list[int], blocks: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedft.encoder.packing._MAX_SCORES", 1 << 30)
    assert [(block.texts, block.length) for block in layout_of(lengths).blocks] == blocks


def test_blocks_are_not_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    monkeypatch.setattr("embedft.encoder.packing._MAX_SCORES", 1 << 16)
    layout = layout_of([256] * 7 + [40, 40, 600])
    sizes = [(block.texts, block.length) for block in layout.blocks]
    assert sizes == [(1, 608), (2, 256), (2, 256), (2, 256), (1, 256), (2, 40)]
    elsewhere = PackedLayout(
        layout.order, layout.lengths, layout.batch_starts, torch.device("meta")
    )
    assert [block.texts for block in elsewhere.blocks] == [1, 7, 2]


@given(text_lengths)
def test_blocks_cost_least(lengths: list[int]) -> None:
    """Against every way to cut the lengths there are."""
    runs = [
        (length, len(list(texts)))
        for length, texts in itertools.groupby(sorted(map(block_length, lengths))[::-1])
    ]

    def cost(blocks: list[tuple[int, int]]) -> int:
        return sum(_BLOCK_COST + texts * length**2 for length, texts in blocks)

    def merged(cuts: tuple[bool, ...]) -> list[tuple[int, int]]:
        blocks = [runs[0]]
        for cut, (length, texts) in zip(cuts, runs[1:], strict=True):
            if cut:
                blocks.append((length, texts))
            else:
                blocks[-1] = blocks[-1][0], blocks[-1][1] + texts
        return blocks

    ways = itertools.product([False, True], repeat=len(runs) - 1)
    assert cost(_merge_groups(runs)) == min(cost(merged(cuts)) for cuts in ways)


@given(text_lengths)
def test_blocks_are_of_like_length(lengths: list[int]) -> None:
    layout = layout_of(lengths)
    rest = layout.lengths.tolist()
    for block in layout.blocks:
        texts, rest = rest[: block.texts], rest[block.texts :]
        assert block.length == block_length(texts[0])
        inside = (
            torch.ones(block.texts, block.length).bool()
            if block.padding is None
            else block.padding[:, 0, 0] == 0
        )
        assert inside.sum(1).tolist() == texts
    assert rest == []
