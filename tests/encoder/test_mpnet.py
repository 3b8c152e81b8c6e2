from __future__ import annotations

from pathlib import Path

import tiny
import torch
from transformers import AutoModel

from embedft.encoder.dropout import DropoutMasks
from embedft.encoder.mpnet import packed_mpnet
from embedft.encoder.packing import PackedLayout


def test_equals_transformers_for_each_text(tmp_path: Path) -> None:
    """Hidden states and gradients, those of the relative position bias included."""
    model = AutoModel.from_pretrained(tiny.build_plain(tmp_path / "m", "mpnet")).double().eval()
    lengths = torch.tensor([20, 9, 3])  # descending, so that the layout keeps their order
    ids = torch.randint(5, 600, (int(lengths.sum()),), generator=torch.Generator().manual_seed(0))
    layout = PackedLayout.from_lengths(lengths, torch.device("cpu"))
    packed = packed_mpnet(model, ids.unsqueeze(0), layout, DropoutMasks()).squeeze(0)
    texts = torch.split(ids, lengths.tolist())
    expected = torch.cat([model(text.unsqueeze(0)).last_hidden_state[0] for text in texts])
    torch.testing.assert_close(packed, expected, rtol=1e-12, atol=1e-12)
    weights = torch.randn_like(packed)
    bias = model.encoder.relative_attention_bias.weight
    ours, theirs = (torch.autograd.grad(out, bias, weights) for out in (packed, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    assert ours[0].abs().max() > 0
