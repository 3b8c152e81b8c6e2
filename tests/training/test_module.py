from __future__ import annotations

from pathlib import Path

import pytest
import torch

from embedft.errors import InputError
from embedft.losses import ContrastiveLoss, MultipleNegativesRankingLoss
from embedft.training.module import EmbeddingModule, in_batch_accuracy
from embedft.training.optimizer import parameter_groups
from embedft.training.trainer import has_native_bf16


def test_biases_and_norms_do_not_decay(tiny_model: Path) -> None:
    encoder = EmbeddingModule(str(tiny_model)).encoder
    decayed, plain = parameter_groups(encoder, 0.01)
    names = {id(parameter): name for name, parameter in encoder.named_parameters()}
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.01, 0.0)
    assert all(names[id(p)].endswith(".weight") for p in decayed["params"])
    assert not any("LayerNorm" in names[id(p)] for p in decayed["params"])
    assert all(
        "LayerNorm" in names[id(p)] or names[id(p)].endswith("bias") for p in plain["params"]
    )
    assert len(decayed["params"]) + len(plain["params"]) == len(names)
    next(encoder.parameters()).requires_grad_(False)
    assert sum(len(group["params"]) for group in parameter_groups(encoder, 0.01)) == len(names) - 1


def test_pairs_are_made_of_drawn_negatives(tiny_model: Path) -> None:
    module = EmbeddingModule(str(tiny_model), ContrastiveLoss())
    anchor, positive = torch.randn(2, 4), torch.randn(2, 4)
    negatives = torch.randn(2, 3, 4)
    first = torch.cat([anchor, anchor[[0, 0, 0, 1, 1, 1]]])
    second = torch.cat([positive, negatives[0], negatives[1]])
    expected = ContrastiveLoss()(first, second, torch.tensor([1.0, 1, 0, 0, 0, 0, 0, 0]))
    assert module.loss_of(anchor, positive, negatives, None) == expected


def test_labels_of_the_file_win(tiny_model: Path) -> None:
    module = EmbeddingModule(str(tiny_model), ContrastiveLoss())
    anchor, positive, labels = torch.randn(2, 4), torch.randn(2, 4), torch.tensor([0.0, 1.0])
    expected = ContrastiveLoss()(anchor, positive, labels)
    assert module.loss_of(anchor, positive, None, labels) == expected


def test_the_default_loss(tiny_model: Path) -> None:
    assert isinstance(EmbeddingModule(str(tiny_model)).loss, MultipleNegativesRankingLoss)


def test_in_batch_accuracy() -> None:
    table = torch.eye(4)
    assert in_batch_accuracy(table, table) == 1
    assert in_batch_accuracy(table, table[[0, 1, 3, 2]] * 9) == 0.5


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan")])
def test_wrong_rate(tiny_model: Path, rate: float) -> None:
    with pytest.raises(InputError, match="learning_rate: is"):
        EmbeddingModule(str(tiny_model), learning_rate=rate)


def test_wrong_warmup(tiny_model: Path) -> None:
    with pytest.raises(InputError, match="warmup_steps: is -1"):
        EmbeddingModule(str(tiny_model), warmup_steps=-1)


def test_loss_is_computed_in_float32_under_autocast(tiny_model: Path) -> None:
    module = EmbeddingModule(str(tiny_model))
    anchor, positive = torch.randn(8, 32), torch.randn(8, 32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = module.loss_of(anchor, positive, None, None)
    assert inside == module.loss_of(anchor, positive, None, None)
    assert inside.dtype == torch.float32


def test_native_bf16_is_asked_of_the_chosen_device() -> None:
    capabilities = torch.cpu.get_capabilities()
    native = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    assert has_native_bf16("cpu") is native
