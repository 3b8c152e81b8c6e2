from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from embedft.errors import InputError
from embedft.training.module import EmbeddingModule
from embedft.training.optimizer import parameter_groups


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


def test_the_default_loss(tiny_model: Path) -> None:
    """Cross-entropy of 20 times the cosine, in both directions; other rows are the negatives."""
    anchor, positive = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0))
    scores = 20 * functional.cosine_similarity(anchor[:, None], positive[None], dim=-1)
    target = torch.arange(6)
    both = [functional.cross_entropy(matrix, target) for matrix in (scores, scores.T)]
    expected = torch.stack(both).mean()
    loss = EmbeddingModule(str(tiny_model)).loss
    torch.testing.assert_close(loss(anchor, positive), expected)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan")])
def test_wrong_rate(tiny_model: Path, rate: float) -> None:
    with pytest.raises(InputError, match="learning_rate: is"):
        EmbeddingModule(str(tiny_model), learning_rate=rate)


def test_wrong_warmup(tiny_model: Path) -> None:
    with pytest.raises(InputError, match="warmup_steps: is -1"):
        EmbeddingModule(str(tiny_model), warmup_steps=-1)
