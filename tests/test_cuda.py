"""Code that runs only on a GPU; skipped without one. Other tests also run there:

pytest tests/test_cuda.py
pytest tests/test_resume.py tests/test_fit.py --accelerator gpu -k "not rank"
"""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from lightning.pytorch import Callback
from tiny import FAMILIES, sample_rows, write_jsonl

from embedft.data.datamodule import EmbeddingDataModule
from embedft.encoder.attention import packed_attention
from embedft.encoder.encoder import Encoder
from embedft.encoder.packing import PackedLayout
from embedft.training.grad_cache import embed_with_grad_cache
from embedft.training.module import EmbeddingModule
from embedft.training.trainer import EmbedftTrainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

TEXTS = ["x", *[row["answer"] for row in sample_rows()[:20]], "long " * 200]


@pytest.fixture(params=FAMILIES)
def encoder(request: pytest.FixtureRequest, tmp_path: Path) -> Encoder:
    """A tiny encoder of a family, without dropout, in training."""
    folder = tiny.build(tmp_path / request.param, request.param)
    model = tmp_path / "model"
    shutil.copytree(folder, model)
    config = json.loads((model / "config.json").read_text())
    config |= {name: 0.0 for name in config if "dropout" in name and name != "classifier_dropout"}
    (model / "config.json").write_text(json.dumps(config))
    return Encoder(str(model)).train()


def pack(encoder: Encoder, device: str = "cuda") -> tuple[torch.Tensor, torch.Tensor]:
    ids = encoder.tokenizer(TEXTS, truncation=True, max_length=encoder.max_seq_length)["input_ids"]
    flat = torch.tensor([token for text in ids for token in text], device=device)
    return flat, torch.tensor([len(text) for text in ids])


def trained_by(
    encoder: Encoder, device: str, chunk: int | None = None
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Embeddings and gradients, moved to the CPU."""
    encoder = copy.deepcopy(encoder).to(device)
    embeddings = embed_with_grad_cache(encoder, *pack(encoder, device), chunk)
    weights = torch.randn(embeddings.shape, generator=torch.manual_seed(0))
    (embeddings * weights.to(embeddings)).mean().backward()  # type: ignore[no-untyped-call]
    grads = {n: p.grad.cpu() for n, p in encoder.named_parameters() if p.grad is not None}
    return embeddings.detach().cpu(), grads


@pytest.mark.parametrize("chunk", [None, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_the_cpu(encoder: Encoder, dtype: torch.dtype, chunk: int | None) -> None:
    """Values and gradients."""
    encoder = encoder.to(dtype)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    ours, theirs = trained_by(encoder, "cuda", chunk), trained_by(encoder, "cpu")
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def test_bf16_is_near_float32(encoder: Encoder) -> None:
    encoder = encoder.cuda()
    exact = encoder(*pack(encoder))
    with torch.autocast("cuda", torch.bfloat16):
        rounded = encoder(*pack(encoder))
    rounded.square().mean().backward()
    assert rounded.dtype == torch.float32
    assert torch.cosine_similarity(exact, rounded).min() > 0.999


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_drops_the_given_share(dtype: torch.dtype) -> None:
    """Values are one-hot positions: the output shows which weights were kept."""
    lengths = torch.tensor([32, 5, 32, 17])
    layout = PackedLayout.from_lengths(lengths, torch.device("cuda"))
    equal = torch.zeros(int(lengths.sum()), 2, 32, device="cuda", dtype=dtype)
    positions = torch.nn.functional.one_hot(layout.position_ids, 32).to(dtype)
    value = positions.unsqueeze(1).expand_as(equal).contiguous()
    weights = torch.cat(
        [
            packed_attention(equal, equal, value, layout, scale=1.0, dropout=0.25).float()
            for _ in range(50)
        ]
    )
    seen = layout.lengths.to("cuda")[layout.text_of_token].repeat(50)
    inside = torch.arange(32, device="cuda") < seen[:, None, None]
    assert not weights[~inside.expand_as(weights)].any()
    kept = (weights * seen[:, None, None])[inside.expand_as(weights)]
    assert 0.24 < (kept == 0).float().mean() < 0.26
    torch.testing.assert_close(
        kept[kept > 0], torch.full_like(kept[kept > 0], 1 / 0.75), rtol=0.01, atol=0.01
    )


def some_pairs(folder: Path) -> Path:
    return write_jsonl(folder / "pairs.jsonl", sample_rows()[:100])


def trainer_of(callback: Callback, **settings: Any) -> EmbedftTrainer:
    return EmbedftTrainer(
        accelerator="gpu",
        devices=1,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        log_every_n_steps=1000,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        logger=False,
        callbacks=[callback],
        **settings,
    )


class NoWait(Callback):
    """Makes whatever waits for the GPU raise, from step 3 to step 9."""

    def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == 3:
            torch.cuda.set_sync_debug_mode("error")

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == 9:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("symmetric", [False, True])
def test_a_step_does_not_wait_for_the_gpu(
    tiny_model: Path, tmp_path: Path, precision: str, symmetric: bool
) -> None:
    from embedft.losses import MultipleNegativesRankingLoss

    trainer = trainer_of(NoWait(), precision=precision, max_epochs=2, gradient_clip_val=1.0)
    data = EmbeddingDataModule(str(some_pairs(tmp_path)), batch_size=8)
    module = EmbeddingModule(
        str(tiny_model), loss=MultipleNegativesRankingLoss(symmetric=symmetric)
    )
    try:
        trainer.fit(module, datamodule=data)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert trainer.global_step > 9


def test_nan_ends_the_run_at_the_next_check(tiny_model: Path, tmp_path: Path) -> None:
    """The error names ids of the batch that was NaN, not of the one that runs when it is found."""
    from embedft.errors import RunFailedError

    class Poison(Callback):
        def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, *args: Any) -> None:
            if trainer.global_step == 4:
                with torch.no_grad():
                    next(module.encoder.parameters()).fill_(float("nan"))

    rows = EmbeddingDataModule(str(some_pairs(tmp_path)), batch_size=8)
    trainer = trainer_of(Poison(), max_epochs=1)
    with pytest.raises(RunFailedError, match=r"loss is .* at step 5 .*batch 4\)"):
        trainer.fit(EmbeddingModule(str(tiny_model)), datamodule=rows)
