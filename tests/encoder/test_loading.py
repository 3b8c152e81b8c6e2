from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch

from embedft.encoder.base_model import find_base_model
from embedft.encoder.loading import (
    first_position_id,
    load_backbone,
    load_tokenizer,
    max_positions,
    resolve_max_seq_length,
)
from embedft.errors import InputError


@pytest.mark.parametrize(
    ("family", "first"), [("bert", 0), ("mpnet", 2), ("xlm-roberta", 2), ("modernbert", 0)]
)
def test_positions_of_the_families(tmp_path: Path, family: str, first: int) -> None:
    """All tiny models have positions for 64 tokens; RoBERTa's start after the padding id."""
    config = find_base_model(str(tiny.build_plain(tmp_path / "m", family))).config
    assert first_position_id(config) == first
    assert max_positions(config) == 64


@pytest.mark.parametrize(
    ("of_model", "of_tokenizer", "expected"), [(48, 64, 48), (None, 50, 50), (None, 10**30, 64)]
)
def test_the_lowest_limit_holds(
    tiny_model: Path, of_model: int | None, of_tokenizer: int, expected: int
) -> None:
    base = replace(find_base_model(str(tiny_model)), max_seq_length=of_model)
    tokenizer = load_tokenizer(base)
    tokenizer.model_max_length = of_tokenizer
    assert resolve_max_seq_length(base, tokenizer, None) == expected


def test_a_given_limit_may_exceed_the_folders(tiny_model: Path) -> None:
    """But not the positions, and it leaves room for a token beside the special ones."""
    base = find_base_model(str(tiny_model))
    tokenizer = load_tokenizer(base)
    assert resolve_max_seq_length(base, tokenizer, 64) == 64
    assert resolve_max_seq_length(base, tokenizer, 3) == 3
    for limit, message in ((65, "give --max_seq_length 64 or less"), (2, "must be at least 3")):
        with pytest.raises(InputError, match=message):
            resolve_max_seq_length(base, tokenizer, limit)


def test_a_tokenizer_that_knows_more_than_the_model(tiny_model: Path) -> None:
    base = find_base_model(str(tiny_model))
    base.config.vocab_size = 10
    with pytest.raises(InputError, match="but the model has embeddings for 10"):
        load_tokenizer(base)


def test_a_backbone_is_in_float32_and_training_mode(tiny_model: Path) -> None:
    backbone = load_backbone(find_base_model(str(tiny_model)))
    assert backbone.training
    assert {weight.dtype for weight in backbone.parameters()} == {torch.float32}
