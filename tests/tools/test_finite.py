from __future__ import annotations

import pytest
import torch

from embedft.tools.finite import all_finite


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_sums_that_overflow_are_of_finite_values(dtype: torch.dtype) -> None:
    assert all_finite(torch.full((4, 4), torch.finfo(dtype).max, dtype=dtype))
    assert all_finite(torch.zeros(0, dtype=dtype))
    for bad in ([torch.nan, 1], [torch.inf, 1], [torch.inf, -torch.inf], [-torch.inf, 1]):
        assert not all_finite(torch.tensor(bad, dtype=dtype))
