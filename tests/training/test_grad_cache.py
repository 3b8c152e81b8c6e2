"""A batch in chunks has the gradient of the whole batch, also with dropout and under autocast."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from embedft.encoder.encoder import Encoder
from embedft.encoder.packing import PackedLayout
from embedft.training.grad_cache import embed_with_grad_cache, texts_per_chunk


def batch(encoder: Encoder, texts: int = 11) -> tuple[Tensor, Tensor]:
    lengths = torch.randint(3, 40, (texts,), generator=torch.manual_seed(1))
    ids = torch.randint(10, 500, (int(lengths.sum()),), generator=torch.manual_seed(2))
    return ids, lengths


def gradients(encoder: Encoder, embed: Callable[[], Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """A loss of all pairs of embeddings, and its gradients."""
    torch.manual_seed(3)
    encoder.zero_grad()
    embeddings = embed()
    loss = (20 * embeddings @ embeddings.T).logsumexp(1).sum()
    torch.autograd.backward(loss)
    return loss.detach(), {
        name: weight.grad for name, weight in encoder.named_parameters() if weight.grad is not None
    }


@pytest.mark.parametrize("size", [1, 3, 11, 64])
def test_gradients_are_those_of_the_whole_batch(tiny_model: Path, size: int) -> None:
    encoder = Encoder(str(tiny_model)).double().eval()
    ids, lengths = batch(encoder)
    loss, expected = gradients(encoder, lambda: encoder(ids, lengths))
    chunked, found = gradients(encoder, lambda: embed_with_grad_cache(encoder, ids, lengths, size))
    torch.testing.assert_close(chunked, loss, rtol=1e-14, atol=0)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-12)


@pytest.mark.parametrize("bf16", [False, True])
def test_dropout_draws_the_same_masks_again(tiny_model: Path, bf16: bool) -> None:
    """The reference embeds the same chunks in the same order, and keeps their activations."""
    encoder = Encoder(str(tiny_model))
    if not bf16:
        encoder.double()
    ids, lengths = batch(encoder)

    def kept() -> Tensor:
        layout = PackedLayout.from_lengths(lengths, torch.device("cpu"))
        chunks = torch.split(layout.lengths, texts_per_chunk(lengths, 4))
        ids_a_chunk = [int(chunk.sum()) for chunk in chunks]
        parts = zip(torch.split(ids[layout.token_index], ids_a_chunk), chunks, strict=True)
        with encoder.shared_token_gradient():
            return torch.cat([encoder(*part) for part in parts])[layout.index_of_text]

    with torch.autocast("cpu", enabled=bf16, cache_enabled=False):
        loss, expected = gradients(encoder, kept)
        chunked, found = gradients(encoder, lambda: embed_with_grad_cache(encoder, ids, lengths, 4))
        plain, _ = gradients(
            encoder, lambda: embed_with_grad_cache(encoder.eval(), ids, lengths, 4)
        )
    assert torch.equal(chunked, loss)
    assert chunked != plain, "dropout is on"
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-12, atol=1e-12)


def test_no_chunk_needs_more_memory_than_chunk_size_texts() -> None:
    lengths = torch.tensor([1, 1, 9, 8, 2, 2, 2, 17])
    assert texts_per_chunk(lengths, 2) == [1, 1, 6]  # the last two texts need the most memory
    for size in range(1, 9):
        needs = lengths * (256 + lengths)
        limit = max(int(run.sum()) for run in torch.split(needs, size))
        chunks = torch.split(needs.sort(descending=True).values, texts_per_chunk(lengths, size))
        assert sum(map(len, chunks)) == len(lengths)
        assert max(int(chunk.sum()) for chunk in chunks) <= limit


def test_activations_are_not_kept(tiny_model: Path) -> None:
    """The memory that autograd keeps for the backward pass does not grow with the batch."""
    encoder = Encoder(str(tiny_model))

    def kept(chunks: int) -> int:
        sizes = []

        def pack(tensor: Tensor) -> Tensor:
            sizes.append(0 if isinstance(tensor, nn.Parameter) else tensor.numel())
            return tensor

        lengths = torch.full((4 * chunks,), 20)
        ids = torch.full((int(lengths.sum()),), 100)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            embed_with_grad_cache(encoder, ids, lengths, 4)
        return sum(sizes)

    one = kept(1)  # the last chunk keeps its activations: its gradient is computed first
    assert one > 100_000
    assert kept(8) < 1.1 * one


@pytest.mark.slow
def test_a_fit_in_chunks_has_the_same_losses(
    fit: Callable[..., Path], without_dropout: list[str], tmp_path: Path
) -> None:
    """With the trainer, clipping and accumulation; in float64, where rounding does not matter."""
    flags = ["--trainer.accumulate_grad_batches=2", "--trainer.gradient_clip_val=0.1"]
    flags += ["--epochs=1", "--precision=64-true", *without_dropout]
    losses = []
    for more in ([], ["--model.chunk_size=3"]):
        out = fit(*flags, *more, output_dir=tmp_path / f"out{len(more)}")
        lines = map(json.loads, (out / "training_metrics.jsonl").read_text().splitlines())
        losses.append([line["train/loss"] for line in lines if "train/loss" in line])
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
