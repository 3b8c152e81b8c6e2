from __future__ import annotations

import pytest
import torch
from torch import nn

from embedft.encoder.dropout import DropoutMasks, FastDropout, replace_dropout

DTYPES = [torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.999])
def test_masks(p: float, dtype: torch.dtype) -> None:
    mask = DropoutMasks().draw(torch.Size([401, 1001]), p, dtype)
    assert mask.dtype == dtype
    scale = torch.tensor(1 / (1 - p), dtype=dtype)
    assert set(mask.flatten().tolist()) <= {0.0, scale.item()}
    share = (mask == 0).double().mean().item()
    assert share == pytest.approx(p, abs=5 * (p * (1 - p) / mask.numel()) ** 0.5 + 1e-5)


def test_neighbours_are_independent() -> None:
    """Two elements share a hash: each of the 16 patterns of four must be as frequent as chance."""
    dropped = DropoutMasks().draw(torch.Size([250_000, 4]), 0.5, torch.float32) == 0
    patterns = (dropped.long() * torch.tensor([1, 2, 4, 8])).sum(1).bincount(minlength=16)
    assert ((patterns - 250_000 / 16).abs() < 5 * (250_000 / 16) ** 0.5).all()


def test_draws_are_independent() -> None:
    """The masks of 100 layers agree as often as chance, each pair of them, place by place."""
    masks, elements = DropoutMasks(), 100_000
    drawn = torch.stack(
        [masks.draw(torch.Size([elements]), 0.1, torch.float32) == 0 for _ in range(100)]
    )
    centred = (drawn.float() - 0.1) / 0.3
    scores = (centred @ centred.T / elements**0.5)[tuple(torch.triu_indices(100, 100, 1))]
    assert scores.std() == pytest.approx(1, abs=0.05)
    assert scores.abs().max() < 5.5
    places = drawn.sum(0).double()
    assert places.mean() == pytest.approx(10, abs=5 * (9 / elements) ** 0.5)
    assert places.var() == pytest.approx(9, abs=0.3)


@pytest.mark.parametrize("count", [1, 2, 3, 131_072, 262_143, 262_144, 262_145])
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_number_of_elements(count: int, dtype: torch.dtype) -> None:
    mask = DropoutMasks().draw(torch.Size([count]), 0.5, dtype)
    assert mask.shape == (count,)
    assert set(mask.tolist()) <= {0.0, 2.0}
    assert abs((mask == 0).double().sum().item() - count / 2) <= 5 * count**0.5


def test_masks_follow_torchs_seed() -> None:
    def draw(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        masks = DropoutMasks()
        masks.reseed()
        return masks.draw(torch.Size([50, 50]), 0.5, torch.float32)

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


def test_successive_masks_differ() -> None:
    masks = DropoutMasks()
    shape = torch.Size([50, 50])
    assert not torch.equal(
        masks.draw(shape, 0.5, torch.float32), masks.draw(shape, 0.5, torch.float32)
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_module_in_training_and_out(dtype: torch.dtype) -> None:
    dropout = FastDropout(0.25, DropoutMasks())
    values = torch.full((64, 64), 3.0, dtype=dtype, requires_grad=True)
    output = dropout(values)
    kept = output != 0
    torch.testing.assert_close(output[kept], torch.full_like(output[kept], 4.0))
    output.sum().backward()
    assert values.grad is not None
    assert torch.equal(values.grad != 0, kept)
    assert dropout.eval()(values) is values


def test_replacement() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Dropout(0.3), nn.Identity()))
    names = list(module.state_dict())
    replace_dropout(module, DropoutMasks())
    (replaced,) = [m for m in module.modules() if isinstance(m, FastDropout)]
    assert replaced.p == 0.3
    assert list(module.state_dict()) == names
