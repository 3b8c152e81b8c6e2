"""sentence-transformers' trainer as an opponent: as its documentation and as an expert uses it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.training_args import BatchSamplers
from sentence_transformers.util import mine_hard_negatives

from embedft.data.pairs import RELEVANT
from embedft.table.record import Record


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """Settings of sentence-transformers' trainer; the defaults are those of its documentation.

    Attributes:
        epochs: Passes over the pairs.
        batch_size: Pairs per step.
        learning_rate: Peak learning rate.
        warmup: Steps (an integer), or their share of the run (below 1).
        no_duplicates: Batches hold no text twice (``BatchSamplers.NO_DUPLICATES``).
        both_directions: Answers are also ranked against questions.
        mined_negatives: Hard negatives per pair by ``mine_hard_negatives``, at most 95% as similar
            to the question as its answer (``relative_margin=0.05``). It drops pairs that have
            fewer. 0 mines none.
    """

    epochs: int = 3
    batch_size: int = 16
    learning_rate: float = 2e-5
    warmup: int | float = 0.1
    no_duplicates: bool = False
    both_directions: bool = False
    mined_negatives: int = 0


EXPERT: dict[str, Any] = {
    "batch_size": 64,
    "learning_rate": 1e-4,
    "no_duplicates": True,
    "both_directions": True,
}
ARMS = {
    "documented": PeerSettings(),
    "expert": PeerSettings(**EXPERT),
    "expert+negatives": PeerSettings(**EXPERT, mined_negatives=1),
}
"""The three opponents of every table."""


def is_relevant(record: Record) -> bool:
    """Whether the answer is relevant to the question."""
    return record.label is None or record.label >= RELEVANT


def train_peer(
    settings: PeerSettings,
    train: list[Record],
    base: Path,
    folder: Path,
    *,
    precision: str,
    seed: int,
) -> tuple[Path, int]:
    """Trains with sentence-transformers' trainer.

    Args:
        settings: Of the trainer.
        train: Rows to train on; those with a label below 0.5 are left out, as embedft does.
        base: Folder of the base model, with its own limit of tokens per text.
        folder: The output folder.
        precision: ``bf16-mixed`` or ``32-true``, as Lightning names them.
        seed: Of batches and dropout.

    Returns:
        The model's folder, and how many rows the mining of negatives dropped.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = SentenceTransformer(str(base), device=device, model_kwargs={"dtype": "float32"})
    relevant = [record for record in train if is_relevant(record)]
    data = Dataset.from_dict(
        {
            "anchor": [record.question for record in relevant],
            "positive": [record.answer for record in relevant],
        }
    )
    if settings.mined_negatives:
        data = mine_hard_negatives(
            data,
            model,
            num_negatives=settings.mined_negatives,
            relative_margin=0.05,
            output_format="n-tuple",
            verbose=False,
        )
    steps = -(-len(data) // settings.batch_size) * settings.epochs
    warmup = settings.warmup if settings.warmup >= 1 else int(settings.warmup * steps)
    sampler = BatchSamplers.NO_DUPLICATES if settings.no_duplicates else BatchSamplers.BATCH_SAMPLER
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder / "checkpoints"),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        warmup_steps=int(warmup),
        weight_decay=0.01,
        max_grad_norm=1.0,
        bf16=precision == "bf16-mixed",
        use_cpu=device == "cpu",
        batch_sampler=sampler,
        seed=seed,
        prompts=_prompts(model),
        save_strategy="no",
        logging_steps=100,
        report_to="none",
        dataloader_pin_memory=False,
    )
    both: dict[str, Any] = {
        "directions": ("query_to_doc", "doc_to_query"),
        "partition_mode": "per_direction",
    }
    loss = MultipleNegativesRankingLoss(model, **(both if settings.both_directions else {}))
    SentenceTransformerTrainer(model=model, args=arguments, train_dataset=data, loss=loss).train()
    model.save_pretrained(str(folder / "model"))
    return folder / "model", len(relevant) - len(data)


def _prompts(model: SentenceTransformer) -> dict[str, str] | None:
    """The prompts of the base model by column, as embedft uses them."""
    names = {"anchor": ("query",), "positive": ("document", "passage", "corpus")}
    default = model.prompts.get(model.default_prompt_name, "")
    prompts = {
        column: next(filter(None, map(model.prompts.get, keys)), default)
        for column, keys in names.items()
    }
    return {column: prompt for column, prompt in prompts.items() if prompt} or None
