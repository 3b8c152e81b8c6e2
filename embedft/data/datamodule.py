"""The LightningDataModule: reads, splits and tokenises once, and hands out packed batches."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from embedft.data.batches import (
    EpochBatches,
    EvalBatch,
    FromPosition,
    Ints,
    TextBatches,
    TrainBatch,
    TrainRows,
    plan_epoch,
)
from embedft.data.records import OnBadRows, Record, normalize_text, read_records
from embedft.data.splits import drop_leaking_rows, split_records
from embedft.data.tokens import TokenStore, tabulate, tokenize
from embedft.errors import InputError
from embedft.evaluation.retrieval import RetrievalTask

if TYPE_CHECKING:
    from embedft.encoder.encoder import Encoder

log = logging.getLogger(__name__)

Positive = Literal["answer", "context", "both"]


class EmbeddingDataModule(LightningDataModule):
    """Question/answer pairs as training batches, and the retrieval task that judges the model.

    Args:
        input_jsonl: JSONL file with ``question`` and ``answer`` (and optionally ``id``,
            ``context``, ``file_name``, ``label`` or ``score``) on each line.
        validation_jsonl: A set of one's own to measure on; all of ``input_jsonl`` is then trained
            on, except rows whose question or answer stands in it.
        positive: What a question is trained to find, and what the corpus holds.
        on_bad_rows: ``error`` refuses a file with bad rows, ``skip`` leaves them out.
        train_split: Share of rows to train on, between 0 and 1.
        split_seed: Another seed holds out other rows. Kept apart from the seed of the training.
        batch_size: Pairs a rank and step.
        eval_batch_size: Texts a rank and step when embedding without training.
        negatives_per_pair: Wrong answers drawn for each pair by the losses that need labels, where
            the file has none.
        num_workers: Processes that prepare batches. Batches are ready-made ids: 0 is fast.
        cache_dir: Folder of tokenised texts; default ``$XDG_CACHE_HOME/embedft`` or
            ``~/.cache/embedft``.
        seed: Seed of batches and drawn negatives. The command line sets it to
            ``--seed_everything``.
    """

    def __init__(
        self,
        input_jsonl: str,
        validation_jsonl: str | None = None,
        positive: Positive = "answer",
        on_bad_rows: OnBadRows = "error",
        train_split: float = 0.9,
        split_seed: int = 42,
        batch_size: int = 16,
        eval_batch_size: int = 64,
        negatives_per_pair: int = 1,
        num_workers: int = 0,
        cache_dir: str | None = None,
        seed: int = 42,
    ) -> None:
        super().__init__()
        for name, value in (
            ("batch_size", batch_size),
            ("eval_batch_size", eval_batch_size),
            ("negatives_per_pair", negatives_per_pair),
        ):
            if value < 1:
                raise InputError(f"{name}: is {value}, must be at least 1")
        self.input_jsonl = input_jsonl
        self.validation_jsonl = validation_jsonl
        self.positive = positive
        self.on_bad_rows = on_bad_rows
        self.train_split = train_split
        self.split_seed = split_seed
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.negatives_per_pair = negatives_per_pair
        self.num_workers = num_workers
        self.cache_dir = Path(cache_dir) if cache_dir else default_cache_dir()
        self.seed = seed
        self.position = (0, 0)
        """Epoch and index of the first batch that was not consumed yet."""
        self.records: list[Record] | None = None
        self.report: dict[str, Any] = {}
        self._encoder: Encoder | None = None

    # Reading, in the order of the road: records, split, tokens.

    def load(self, encoder: Encoder, needs_labels: bool, stage: str = "fit") -> None:
        """Reads, splits and tokenises; a second call with the same encoder does nothing.

        Args:
            encoder: Gives the tokenizer, the length limit and the prompts.
            needs_labels: The loss needs labels; negatives are drawn where the file has none.
            stage: ``fit``, ``validate``, ``test`` or ``predict``; ``predict`` keeps every row.

        Raises:
            InputError: The input can't be used; the message says where and why.
        """
        if self._encoder is encoder and self.records is not None:
            return
        self._encoder = encoder
        predicting = stage == "predict"
        records, reading = read_records(
            self.input_jsonl,
            self.on_bad_rows,
            drop_duplicates=not predicting,
            context_required=self.positive == "context",
        )
        log.info("%s", reading)
        for problem in reading.problems:
            log.warning("%s", problem)
        self.records = records
        if predicting:
            self._load_for_prediction(records, encoder)
            return
        train, validation = self._split(records)
        self._load_for_training(train, validation, encoder, needs_labels)
        self.report |= {
            "rows_read": reading.rows,
            "rows_valid": reading.valid,
            "rows_skipped": reading.skipped,
            "exact_duplicates_dropped": reading.duplicates,
            "repeated_questions": reading.repeated_questions,
            "repeated_answers": reading.repeated_answers,
            "share_cut": float(self.tokens.cut.mean()),
            "train_examples": len(train),
            "eval_examples": len(validation),
        }

    def _split(self, records: list[Record]) -> tuple[list[Record], list[Record]]:
        with_context = self.positive != "answer"
        if self.validation_jsonl is None:
            split = split_records(records, self.train_split, self.split_seed, with_context)
            log.info("%s", split)
            return [records[row] for row in split.train], [records[row] for row in split.validation]
        validation, reading = read_records(
            self.validation_jsonl,
            self.on_bad_rows,
            context_required=self.positive == "context",
        )
        log.info("%s", reading)
        train, same_file = drop_leaking_rows(records, validation, with_context)
        if len(train) < 2:
            raise InputError(
                f"{self.input_jsonl}: {len(train)} row(s) are left to train on after leaving out "
                f"those whose question or answer stands in {self.validation_jsonl}"
            )
        log.info(
            "validation set of your own: %d rows; %d training rows left out because their question "
            "or answer stands in it, %d left",
            len(validation),
            len(records) - len(train),
            len(train),
        )
        if same_file:
            log.warning("%d training rows share a file with your validation set", same_file)
        return train, validation

    def _load_for_training(
        self, train: list[Record], validation: list[Record], encoder: Encoder, needs_labels: bool
    ) -> None:
        train_pairs = self._pairs(train)
        if train[0].label is not None and not needs_labels:
            kept = [pair for pair in train_pairs if (pair[0].label or 0) >= 0.5]
            log.info("labels: %d pairs below 0.5 are not trained on", len(train_pairs) - len(kept))
            train_pairs = kept
            if len(kept) < 2:
                raise InputError(f"{self.input_jsonl}: label: fewer than 2 pairs reach 0.5")
        pairs = train_pairs + self._pairs(validation)
        questions = [encoder.query_text(record.question) for record, _ in pairs]
        documents = [encoder.document_text(text) for _, text in pairs]
        keys = tabulate([[normalize_text(record.question) for record, _ in pairs]])[1]
        keys += tabulate([[normalize_text(text) for _, text in pairs]])[1]
        texts, (anchor, positive) = tabulate([questions, documents])
        self.tokens = self._tokenize(texts, encoder)
        cut = self.tokens.cut
        log.info(
            "max_seq_length %d cuts %.1f%% of the questions and %.1f%% of the documents",
            encoder.max_seq_length,
            100 * cut[np.unique(anchor)].mean(),
            100 * cut[np.unique(positive)].mean(),
        )
        _, (file,) = tabulate([["", *(record.file_name for record, _ in train_pairs)]])
        count = len(train_pairs)
        labels = [record.label for record, _ in train_pairs if record.label is not None]
        self.rows = TrainRows(
            anchor=anchor[:count],
            positive=positive[:count],
            anchor_key=keys[0][:count],
            positive_key=keys[1][:count],
            file=file[1:] - 1,
            labels=np.array(labels, dtype=np.float32) if labels else None,
        )
        self.draws = self.negatives_per_pair if needs_labels and not labels else 0
        self.validation_rows = TrainRows(
            anchor=anchor[count:],
            positive=positive[count:],
            anchor_key=keys[0][count:],
            positive_key=keys[1][count:],
            file=np.full(len(pairs) - count, -1),
            labels=np.array([record.label for record, _ in pairs[count:]], dtype=np.float32)
            if labels
            else None,
        )
        right = [record.label is None or record.label >= 0.5 for record, _ in pairs[count:]]
        self.task = retrieval_task(self.rows, self.validation_rows, np.array(right))

    def _pairs(self, records: list[Record]) -> list[tuple[Record, str]]:
        """(record, positive text) of each training or validation pair."""
        pairs = []
        for record in records:
            if self.positive != "context":
                pairs.append((record, record.answer))
            if self.positive != "answer" and record.context:
                pairs.append((record, record.context))
        return pairs

    def _load_for_prediction(self, records: list[Record], encoder: Encoder) -> None:
        questions = [encoder.query_text(record.question) for record in records]
        answers = [encoder.document_text(record.answer) for record in records]
        texts, (self.question_texts, self.answer_texts) = tabulate([questions, answers])
        self.tokens = self._tokenize(texts, encoder)

    def _tokenize(self, texts: list[str], encoder: Encoder) -> TokenStore:
        return tokenize(texts, encoder.tokenizer, encoder.max_seq_length, self.cache_dir)

    # Lightning's hooks.

    def prepare_data(self) -> None:
        """Reads and tokenises on one process a host, so that the others find the cache."""
        self._load_for_trainer()

    def setup(self, stage: str) -> None:
        """Reads and tokenises, on every rank."""
        self._load_for_trainer()

    def _load_for_trainer(self) -> None:
        assert self.trainer is not None
        module: Any = self.trainer.lightning_module
        stage = str(self.trainer.state.fn.value) if self.trainer.state.fn else "fit"
        self.load(module.encoder, module.loss.needs_labels, stage)

    def _ranks(self) -> tuple[int, int]:
        """This process's rank and the number of ranks."""
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size

    def train_batches(self, epoch: int) -> EpochBatches:
        """This rank's batches of an epoch."""
        rank, world_size = self._ranks()
        plan = plan_epoch(
            self.rows.anchor_key,
            self.rows.positive_key,
            batch_size=self.batch_size,
            seed=self.seed,
            epoch=epoch,
            world_size=world_size,
        )
        return EpochBatches(
            self.rows,
            plan,
            self.tokens,
            seed=self.seed,
            epoch=epoch,
            rank=rank,
            world_size=world_size,
            negatives_per_pair=self.draws,
        )

    def batches_per_epoch(self, epochs: Iterable[int]) -> list[int]:
        """Global batches of each of some epochs, exactly."""
        return [len(self.train_batches(epoch)) for epoch in epochs]

    def train_dataloader(self) -> DataLoader[TrainBatch]:
        """The rest of the current epoch. Lightning asks for it anew each epoch."""
        assert self.trainer is not None
        epoch, start = max(self.position, (self.trainer.current_epoch, 0))
        batches = self.train_batches(epoch)
        return self._loader(batches, FromPosition(len(batches), start))

    def val_dataloader(self) -> DataLoader[EvalBatch]:
        """The texts of the retrieval task, in batches of like lengths."""
        return self._text_loader(self.task.texts)

    def test_dataloader(self) -> DataLoader[EvalBatch]:
        """As :meth:`val_dataloader`."""
        return self.val_dataloader()

    def predict_dataloader(self) -> DataLoader[EvalBatch]:
        """All distinct texts of the file."""
        return self._text_loader(np.arange(len(self.tokens.cut)))

    def _text_loader(self, texts: Ints) -> DataLoader[EvalBatch]:
        rank, world_size = self._ranks()
        batches = TextBatches(self.tokens, texts, self.eval_batch_size, rank, world_size)
        return self._loader(batches, None)

    def _loader(self, batches: Any, sampler: FromPosition | None) -> DataLoader[Any]:
        return DataLoader(
            batches,
            batch_size=None,
            sampler=sampler,
            num_workers=self.num_workers,
            pin_memory=self.trainer is not None
            and self.trainer.strategy.root_device.type == "cuda",
        )

    # The position in the epoch, for resume.

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Notes how far the epoch is consumed; prefetched batches do not count."""
        if isinstance(batch, TrainBatch):
            assert self.trainer is not None
            if batch.epoch != self.trainer.current_epoch:
                raise InputError(
                    "each epoch has new batches: Trainer needs reload_dataloaders_every_n_epochs=1"
                )
            self._consumed = batch
        return batch

    def state_dict(self) -> dict[str, Any]:
        """The position after the last consumed batch, and what the plan depends on."""
        epoch, index = self.position
        if (last := getattr(self, "_consumed", None)) is not None:
            epoch, index = last.epoch, last.batch_index + 1
            if index == len(self.train_batches(epoch)):
                epoch, index = epoch + 1, 0
        return {"epoch": epoch, "batch": index, **self._plan_settings()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues a fit at a saved position; a checkpoint that is only measured has none.

        Raises:
            InputError: The position is inside an epoch and the batches would be others now.
        """
        if self.trainer is not None and self.trainer.state.fn != "fit":
            return
        if state_dict["batch"]:
            for name, now in self._plan_settings().items():
                if state_dict[name] != now:
                    raise InputError(
                        f"the checkpoint lies inside an epoch and was made with {name} "
                        f"{state_dict[name]}, now {now}: its batches can't be continued; resume "
                        "with the same, or start a new run"
                    )
        self.position = (state_dict["epoch"], state_dict["batch"])

    def _plan_settings(self) -> dict[str, Any]:
        return {
            "data_fingerprint": self.tokens.fingerprint,
            "batch_size": self.batch_size,
            "world_size": self._ranks()[1],
            "seed": self.seed,
        }


def retrieval_task(
    train: TrainRows, validation: TrainRows, right: np.ndarray[Any, np.dtype[np.bool_]]
) -> RetrievalTask:
    """Held-out questions against all distinct positives of the whole set.

    Args:
        train: Training pairs.
        validation: Held-out pairs.
        right: (held-out pairs,) the pair's positive is a right answer.

    Raises:
        InputError: No held-out question has a right answer.
    """
    if not right.any():
        raise InputError("label: no held-out pair reaches 0.5, so nothing can be measured")
    text = np.concatenate([train.positive, validation.positive])
    key = np.concatenate([train.positive_key, validation.positive_key])
    distinct, first = np.unique(key, return_index=True)
    place_of = {int(value): place for place, value in enumerate(distinct)}
    relevant: dict[int, set[int]] = {}
    query_text: dict[int, int] = {}
    for row in np.flatnonzero(right):
        question = int(validation.anchor_key[row])
        query_text.setdefault(question, int(validation.anchor[row]))
        relevant.setdefault(question, set()).add(place_of[int(validation.positive_key[row])])
    return RetrievalTask(
        queries=np.array(list(query_text.values())),
        corpus=text[first],
        corpus_keys=distinct,
        relevant=[np.array(sorted(places)) for places in relevant.values()],
    )


def default_cache_dir() -> Path:
    """Where tokenised texts are kept unless told otherwise."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "embedft" / "tokens"
