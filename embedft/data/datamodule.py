"""The LightningDataModule: reads, splits and tokenises once, and hands out packed batches."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from embedft.data.batches import (
    EpochBatches,
    EvalBatch,
    FromPosition,
    TextBatches,
    TrainBatch,
)
from embedft.data.load import read_settings
from embedft.data.negative_sampling import coded, train_negatives
from embedft.data.pairs import target_names, train_rows
from embedft.data.plan import MAX_LEFT_OUT, BatchPlan, plan_epoch
from embedft.data.resume import refuse_other_batches, refuse_other_rows
from embedft.data.split import train_split_error
from embedft.data.task import retrieval_task
from embedft.data.train_validation import Sides, labelled_right, sides_of_two, split_sides
from embedft.errors import InputError
from embedft.evaluation.query_results import task_name
from embedft.recipe import Asked, Auto, Facts, Recipe, choose
from embedft.table.jsonl import OnBadRows, refuse_pipe
from embedft.table.keys import Hashes, Ints
from embedft.table.negatives import N_MINED, Negatives
from embedft.table.read_report import ReadCounts
from embedft.table.settings import Positive, ReadSettings, default_cache_dir
from embedft.table.table import Table, read_table
from embedft.table.tokens import describe_truncation, distinct_texts

if TYPE_CHECKING:
    from embedft.encoder.encoder import Encoder

log = logging.getLogger(__name__)


class EmbeddingDataModule(LightningDataModule):
    """Question/answer pairs as training batches, and the retrieval task that judges the model.

    Args:
        input_jsonl: JSONL file with ``question`` and ``answer`` (and optionally ``id``,
            ``context``, ``file_name``, ``label`` or ``score``) on each line.
        guard_jsonl: Pairs of another domain: how much the best model has forgotten there is
            measured at the end of ``fit``, all questions against all answers.
        validation_jsonl: A set of one's own to measure on; all of ``input_jsonl`` is then trained
            on, except rows whose question or answer stands in it.
        positive: What a question is trained to find, and what the corpus holds.
        on_bad_rows: ``error`` refuses a file with bad rows, ``skip`` leaves them out.
        train_split: Share of rows to train on, between 0 and 1; ``test`` and ``validate`` also
            take 0: every question is measured.
        split_seed: Another seed holds out other rows. Kept apart from the seed of the training.
        batch_size: Pairs a rank and step.
        eval_batch_size: Texts a rank and step when embedding without training.
        negatives_per_pair: Wrong answers drawn for each pair by the losses that need labels, where
            the file has none.
        hard_negatives: How many of a row's ``negatives`` in the file a step takes, as further wrong
            answers; each epoch takes the next ones of the list. 0 for none.
        mine_negatives: Where the file names none, the base model mines negatives for each training
            pair before it is trained: the nearest positives of other pairs that share no text and
            no file with it, directly or through others, and are less similar to the question than
            95% of its own positive. It embeds the training texts once.
        topic_batches: Batches of pairs about like things, by the base model, the most alike as a
            rule together: their in-batch negatives are harder. The base model embeds the training
            texts once. ``auto``: on from 1,000 training pairs on, if fewer than 0.2% of the
            questions have several answers and file_batches is not true. Several answers would be
            negatives of each other.
        file_batches: Batches that keep rows of a file together, in pieces of an eighth of a batch
            at most: a file's other answers are hard negatives, and less often right than those of
            other files about the same thing. ``auto``: on if more than 50% of the pairs share their
            file with another pair and topic_batches is off. If both are true, topics decide.
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
        guard_jsonl: str | None = None,
        positive: Positive = "answer",
        on_bad_rows: OnBadRows = "error",
        train_split: float = 0.9,
        split_seed: int = 42,
        batch_size: int = 16,
        eval_batch_size: int = 64,
        negatives_per_pair: int = 1,
        hard_negatives: int = 1,
        mine_negatives: bool = False,
        topic_batches: bool | Auto = False,
        file_batches: bool | Auto = False,
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
        for name, value in (("hard_negatives", hard_negatives), ("num_workers", num_workers)):
            if value < 0:
                raise InputError(f"{name}: is {value}, must be 0 or more")
        if validation_jsonl is None and not 0 <= train_split < 1:
            raise train_split_error(train_split)
        self.input_jsonl = input_jsonl
        self.validation_jsonl = validation_jsonl
        self.guard_jsonl = guard_jsonl
        self.positive = positive
        self.on_bad_rows = on_bad_rows
        self.train_split = train_split
        self.split_seed = split_seed
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.negatives_per_pair = negatives_per_pair
        self.hard_negatives = hard_negatives
        self.mine_negatives = mine_negatives
        self.topic_batches = topic_batches
        self.file_batches = file_batches
        self.n_trained_on = 0
        """How many of the questions a checkpoint that is measured was trained on."""
        self.mined: Ints | None = None
        """(rows, N) rows whose positives are hard negatives of each, -1 for none; once mined."""
        self.facts = Facts(pairs=0)
        """What the training pairs are, once the data is read."""
        self.recipe = choose(self.asked(), self.facts)
        """What decides the batches; a fit replaces it by the recipe of the whole run."""
        self.topic_position: Ints | None = None
        """(rows,) place of each training row in an order of topics, for ``topic_batches``."""
        self.num_workers = num_workers
        self.cache_dir = Path(cache_dir) if cache_dir else default_cache_dir()
        self.seed = seed
        self.position = (0, 0)
        """Epoch and index of the first batch that was not consumed yet."""
        self.counts: dict[str, Any] = {}
        self.digests: dict[str, str] = {}
        """The digest of each file that was read, by its path."""
        self._encoder: Encoder | None = None
        self._loaded_for: tuple[str, ...] = ()
        self._plan: tuple[tuple[int, int], BatchPlan] | None = None
        self._most_negatives = 0

    # Reading, in the order of the road: tables of rows and tokens, split, pairs.

    def load(self, encoder: Encoder, needs_labels: bool, stage: str = "fit") -> None:
        """Reads, tokenises and splits; does nothing where that is done for encoder and stage.

        Args:
            encoder: Gives the tokenizer, the length limit and the prompts.
            needs_labels: The loss needs labels; negatives are drawn where the file has none.
            stage: ``fit``, ``validate``, ``test`` or ``predict``; ``predict`` keeps every row.

        Raises:
            InputError: The input can't be used; the message says where and why.
        """
        if self._encoder is encoder and stage in self._loaded_for:
            return
        self._encoder, self._loaded_for = encoder, ()
        predicting = stage == "predict"
        documents: Positive = "answer" if predicting else self.positive
        settings = read_settings(
            encoder,
            documents,
            context_required=self.positive == "context",
            negatives=self.hard_negatives > 0,
        )
        table, rows, reading = self._read(self.input_jsonl, settings, not predicting)
        for problem in reading.problems:
            log.warning("%s", problem)
        if predicting:
            self.table, self.tokens = table, table.tokens
            assert table.answer is not None
            self.question_texts, self.answer_texts = table.question, table.answer
        else:
            self.counts = {
                "rows_read": reading.rows,
                "rows_valid": reading.valid,
                "rows_skipped": reading.skipped,
                "exact_duplicates_dropped": reading.duplicates,
                "repeated_questions": reading.repeated_questions,
                "repeated_answers": reading.repeated_answers,
            }
            if self.validation_jsonl is None:
                sides = split_sides(
                    table,
                    rows,
                    self.positive,
                    self.train_split,
                    self.split_seed,
                    may_hold_out_all=stage != "fit",
                )
            else:
                own, own_rows, _ = self._read(self.validation_jsonl, settings, True)
                sides = sides_of_two(table, rows, own, own_rows, self.positive)
            self.tokens = sides.tokens
            self.counts["train_examples"], self.counts["eval_examples"] = sides.rows
            self._load_pairs(sides, table, encoder, needs_labels, fits=stage == "fit")
        measures = ("validate", "test")
        self._loaded_for = (stage,) if predicting else ("fit", *measures)[stage != "fit" :]

    def _read(
        self, path: str, settings: ReadSettings, drop_duplicates: bool
    ) -> tuple[Table, Ints, ReadCounts]:
        """A table, its rows that are used, and what reading found."""
        refuse_pipe(path)
        table = read_table(path, settings, self.cache_dir, self.on_bad_rows)
        rows = table.kept(drop_duplicates=drop_duplicates)
        reading = table.report(drop_duplicates=drop_duplicates)
        log.info("%s", reading)
        self.digests[path] = table.digest
        return table, rows, reading

    def _load_pairs(
        self, sides: Sides, table: Table, encoder: Encoder, needs_labels: bool, *, fits: bool
    ) -> None:
        train, validation = sides.train, sides.held_out
        self.pairs, self.validation_pairs = train_rows(train, validation)
        self.searched_pairs = self.pairs, self.validation_pairs
        self.task = retrieval_task(self.pairs, self.validation_pairs, validation.relevant)
        self._held_out = validation.only(validation.relevant)
        if train.label is None or not needs_labels:
            self.validation_pairs = self.validation_pairs.only(validation.relevant)
        negatives = None
        if fits:
            if train.label is not None and not needs_labels:
                right = labelled_right(train, self.input_jsonl)
                train, self.pairs = train.only(right), self.pairs.only(right)
                self.counts["train_examples"] = len(np.unique(train.source_row))
            self.trained_keys = np.unique(np.append(train.anchor_hash, train.positive_hash))
            negatives = train_negatives(table, train, validation)
            if negatives is not None:
                negatives = coded(negatives, sides.train, validation)
                self.pairs = replace(self.pairs, negatives=negatives)
        # With in-batch negatives a small batch costs more than a row that waits.
        self.max_left_out = 0.0 if needs_labels else MAX_LEFT_OUT
        self.pairwise_negatives = needs_labels
        self.n_drawn_negatives = (
            self.negatives_per_pair if needs_labels and self.pairs.labels is None else 0
        )
        named = 0 if negatives is None else np.count_nonzero(negatives.counts)
        if self.mine_negatives and named:
            log.log(
                logging.WARNING if named < len(self.pairs) / 2 else logging.INFO,
                "mine_negatives: none are mined, as the file names negatives for %d of %d training "
                "pairs",
                named,
                len(self.pairs),
            )
        self._most_negatives = 0 if negatives is None else int(negatives.counts.max())
        self.facts = Facts(
            pairs=len(self.pairs),
            several_answers=self.pairs.several_answers,
            share_a_file=self.pairs.share_a_file,
            pairs_with_negatives=int(named),
            needs_labels=needs_labels,
        )
        self.topic_position = self.mined = None
        self.use_recipe(choose(self.asked(), self.facts))
        used = (self.pairs, self.validation_pairs)
        texts = {
            "questions": distinct_texts(*(rows.anchor for rows in used)),
            " and ".join(target_names(self.positive)): distinct_texts(
                *(rows.positive for rows in used)
            ),
        }
        self.counts["texts_cut"] = describe_truncation(
            encoder.max_seq_length,
            {name: float(self.tokens.cut[some].mean()) for name, some in texts.items()},
        )
        log.info("%s", self.counts["texts_cut"])

    @property
    def task_name(self) -> str:
        """Tells the retrieval task from that of other data."""
        return task_name(self.task, self.tokens.fingerprint)

    # Lightning's hooks.

    def prepare_data(self) -> None:
        """Reads and tokenises on one process a host, so that the others find the cache."""
        self._load_for_trainer()

    def setup(self, stage: str) -> None:
        """Reads and tokenises, on every rank."""
        self._load_for_trainer()

    def asked(self) -> Asked:
        """What the user asked for about the data."""
        return Asked(
            topic_batches=self.topic_batches,
            file_batches=self.file_batches,
            mine_negatives=self.mine_negatives,
            hard_negatives=self.hard_negatives,
        )

    def use_recipe(self, recipe: Recipe) -> None:
        """Makes the batches of a recipe."""
        self.recipe, self._plan = recipe, None

    @property
    def n_hard_negatives(self) -> int:
        """Hard negatives of a pair in a step."""
        most = N_MINED if self.recipe.mine_negatives else self._most_negatives
        return min(self.hard_negatives, most)

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

    @property
    def global_batch_size(self) -> int:
        """Pairs of all ranks in a step: the candidates of an anchor."""
        return self.batch_size * self._ranks()[1]

    def train_batches(self, epoch: int) -> EpochBatches:
        """This rank's batches of an epoch."""
        rank, world_size = self._ranks()
        if self._plan is None or self._plan[0] != (epoch, world_size):
            plan = plan_epoch(
                self.pairs.anchor_id,
                self.pairs.positive_id,
                batch_size=self.global_batch_size,
                seed=self.seed,
                epoch=epoch,
                topic_position=self.topic_position,
                file=self.pairs.file_id if self.recipe.file_batches else None,
                max_left_out=self.max_left_out,
            )
            self._plan = (epoch, world_size), plan
        return EpochBatches(
            self.pairs,
            self._plan[1],
            self.tokens,
            seed=self.seed,
            epoch=epoch,
            rank=rank,
            world_size=world_size,
            negatives_per_pair=self.n_drawn_negatives,
            hard_negatives=0 if self.pairs.negatives is None else self.n_hard_negatives,
            pairwise_negatives=self.pairwise_negatives,
        )

    def order_by_topic(self, place: Ints) -> None:
        """Makes the batches of :attr:`topic_position`."""
        self._plan, self.topic_position = None, place

    def take_mined(self, found_RN: Ints) -> None:
        """Makes hard negatives of :attr:`mined`."""
        self.mined = found_RN
        if (found_RN >= 0).any():
            rows = self.pairs
            negatives = Negatives.of_pairs(found_RN, rows.positive, rows.positive_id)
            self.pairs = replace(rows, negatives=negatives)

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

    @property
    def predicted_texts(self) -> Ints:
        """(texts,) the distinct texts of all questions and answers, ascending."""
        return np.unique(np.concatenate([self.question_texts, self.answer_texts]))

    def predict_dataloader(self) -> DataLoader[EvalBatch]:
        """The texts of :attr:`predicted_texts`."""
        return self._text_loader(self.predicted_texts)

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

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        """Moves a batch but for the lengths: read on the CPU, they cost no wait for a GPU."""
        moved = super().transfer_batch_to_device(batch, device, dataloader_idx)
        return moved._replace(lengths=batch.lengths)

    # The position in the epoch, for resume.

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Notes how far the epoch is consumed; prefetched batches do not count."""
        if isinstance(batch, TrainBatch):
            assert self.trainer is not None
            if batch.epoch != self.trainer.current_epoch:
                raise InputError(
                    "each epoch has new batches: Trainer needs reload_dataloaders_every_n_epochs=1;"
                    " leave --trainer.reload_dataloaders_every_n_epochs out"
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
        place, mined = (
            None if table is None else torch.from_numpy(table)
            for table in (self.topic_position, self.mined)
        )
        return {
            "epoch": epoch,
            "batch": index,
            "topic_place": place,
            "mined": mined,
            "trained_keys": torch.from_numpy(self.trained_keys.view(np.int64)),
            **self._made_with(),
        }

    def refuse_other_run(self, state_dict: dict[str, Any]) -> None:
        """Refuses to go on with a run of other rows or batches, once the data is read.

        Args:
            state_dict: Of the checkpoint that a fit is to go on from.

        Raises:
            InputError: The files, how their texts are read, or the split are not what they were;
                or the position is inside an epoch and its batches would be others now.
        """
        refuse_other_rows(state_dict, self._made_with())
        if state_dict.get("batch"):
            refuse_other_batches(state_dict, self.plan_settings())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues a fit at a saved position, or takes note of what is measured and trained on.

        Raises:
            InputError: As :meth:`refuse_other_run`.
        """
        if self.trainer is not None and self.trainer.state.fn != "fit":
            if self.trainer.state.fn != "predict" and "trained_keys" in state_dict:
                self._look_for(state_dict["trained_keys"].numpy().view(np.uint64))
            return
        self.refuse_other_run(state_dict)
        self.position = (state_dict["epoch"], state_dict["batch"])
        place = state_dict.get("topic_place")
        if self.recipe.topic_batches and place is not None and len(place) == len(self.pairs):
            self.order_by_topic(place.numpy())
        mined = state_dict.get("mined")
        if self.recipe.mine_negatives and mined is not None and len(mined) == len(self.pairs):
            self.take_mined(mined.numpy())

    def _look_for(self, trained_keys: Hashes) -> None:
        """Counts the questions to measure that were trained on, by themselves or an answer."""
        pairs = self._held_out
        is_trained = np.isin(pairs.anchor_hash, trained_keys)
        is_trained |= np.isin(pairs.positive_hash, trained_keys)
        self.n_trained_on = len(np.unique(pairs.anchor_hash[is_trained]))
        if self.n_trained_on:
            log.warning(
                "%d of the %d questions were trained on, or an answer to them was: their figures "
                "say nothing of new questions; the split of the run (--config config.yaml of its "
                "folder) holds out what it held out",
                self.n_trained_on,
                len(self.task.queries),
            )

    def _made_with(self) -> dict[str, Any]:
        """As a checkpoint keeps it: the files, in the order of the fingerprint, and the plan."""
        files = {"input_jsonl": self.input_jsonl, "validation_jsonl": self.validation_jsonl}
        return {"files": files, **self.plan_settings()}

    def plan_settings(self) -> dict[str, Any]:
        """All that decides which rows make which batch."""
        return {
            "data_fingerprint": self.tokens.fingerprint,
            "batch_size": self.batch_size,
            "world_size": self._ranks()[1],
            "seed": self.seed,
            "train_split": self.train_split,
            "split_seed": self.split_seed,
            "positive": self.positive,
            "topic_batches": self.recipe.topic_batches,
            "file_batches": self.recipe.file_batches,
            "mine_negatives": self.recipe.mine_negatives,
        }
