"""The LightningDataModule: hands out packed batches for training, evaluation and prediction."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from embedft.data.batches import EpochBatches, EvalBatch, FromPosition, TextBatches, TrainBatch
from embedft.data.load import FitData, load_fit_data, load_table
from embedft.data.pairs import Pairs
from embedft.data.resume import EpochPosition, ResumeState, count_trained_on, plan_settings
from embedft.data.split import check_train_split
from embedft.data.training_batches import TrainingBatches
from embedft.errors import check_at_least
from embedft.evaluation.retrieval import RetrievalTask
from embedft.recipe import BATCH_SIZE
from embedft.table.jsonl import OnBadRows
from embedft.table.keys import Ints
from embedft.table.settings import Target, default_cache_dir
from embedft.table.table import Table
from embedft.table.tokens import TokenStore

if TYPE_CHECKING:
    from embedft.encoder.encoder import Encoder

log = logging.getLogger(__name__)


class EmbeddingDataModule(LightningDataModule):
    """Question/answer pairs as training batches, and the retrieval task that judges the model.

    Args:
        input_jsonl: JSONL file with ``question`` and ``answer`` (and optionally ``id``,
            ``context``, ``file_name``, ``label`` or ``score``) on each line.
        validation_jsonl: A separate validation file. All of ``input_jsonl`` is then used for
            training, minus rows whose question or answer also occurs in it.
        guard_jsonl: Pairs of another domain. At the end of ``fit``, all their questions search all
            their answers, to show how much the best model has forgotten.
        positive: What a question is trained to find, and what the corpus holds.
        on_bad_rows: ``error`` refuses a file with bad rows, ``skip`` leaves them out.
        train_split: Share of rows to train on, between 0 and 1; ``test`` and ``validate`` also
            take 0: every question is evaluated.
        split_seed: Another seed holds out other rows. It is independent of the training seed.
        batch_size: Batch size per device.
        eval_batch_size: Texts per device and step when embedding without training.
        max_files_per_question: Drop rows whose question more files are asked, such as "What is the
            main finding?": it can't tell files apart. Default: keep them all.
        negatives_per_pair: Wrong answers drawn for each pair, if the loss needs labels and the
            file has none.
        hard_negatives: How many of a row's ``negatives`` a step takes as further wrong answers.
            Each epoch takes the next ones of the list. 0 for none.
        mine_negatives: If the file names no negatives, mine them with the base model before
            training: the most similar positives that are not of the pair's file or question. Their
            similarity to the question is at most 95% of that of its own positive.
        num_workers: Processes that prepare batches; 0 is fast, because texts are tokenised already.
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
        positive: Target = "answer",
        on_bad_rows: OnBadRows = "error",
        train_split: float = 0.9,
        split_seed: int = 42,
        batch_size: int = BATCH_SIZE,
        eval_batch_size: int = 64,
        max_files_per_question: int | None = None,
        negatives_per_pair: int = 1,
        hard_negatives: int = 1,
        mine_negatives: bool = False,
        num_workers: int = 0,
        cache_dir: str | None = None,
        seed: int = 42,
    ) -> None:
        super().__init__()
        check_at_least(
            1,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            negatives_per_pair=negatives_per_pair,
            max_files_per_question=max_files_per_question,
        )
        check_at_least(0, hard_negatives=hard_negatives, num_workers=num_workers)
        if validation_jsonl is None:
            check_train_split(train_split, may_hold_out_all=True)
        self.input_jsonl, self.on_bad_rows = input_jsonl, on_bad_rows
        self.validation_jsonl, self.guard_jsonl = validation_jsonl, guard_jsonl
        self.positive = positive
        self.train_split, self.split_seed = train_split, split_seed
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.max_files_per_question = max_files_per_question
        self.negatives_per_pair, self.hard_negatives = negatives_per_pair, hard_negatives
        self.mine_negatives = mine_negatives
        self.num_workers, self.seed = num_workers, seed
        self.cache_dir = Path(cache_dir) if cache_dir else default_cache_dir()
        self.digests: dict[str, str] = {}
        """The digest of each file that was read, by its path."""
        self.n_trained_on = 0
        """How many of the questions the checkpoint that is evaluated was trained on."""
        self._encoder: Encoder | None = None
        self._loaded_for: tuple[str, ...] = ()
        self._fit_data: FitData | None = None
        self._training: TrainingBatches | None = None
        self._table: Table | None = None
        self._position = EpochPosition()

    def load(self, encoder: Encoder, needs_labels: bool, stage: str = "fit") -> None:
        """Reads, tokenises and splits; does nothing if that is done for this encoder and stage.

        Args:
            encoder: Gives the tokenizer, the length limit and the prompts.
            needs_labels: The loss needs labels; negatives are drawn if the file has none.
            stage: ``fit``, ``validate``, ``test`` or ``predict``; ``predict`` keeps every row.

        Raises:
            InputError: The input can't be used; the message says where and why.
        """
        if self._encoder is encoder and stage in self._loaded_for:
            return
        self._encoder, self._loaded_for = encoder, ()
        if stage == "predict":
            self._table = load_table(self, encoder)
            self.digests[self.input_jsonl] = self._table.digest
            self._loaded_for = ("predict",)
            return
        fits = stage == "fit"
        self._fit_data = data = load_fit_data(self, encoder, needs_labels=needs_labels, fits=fits)
        self.digests |= data.digests
        self._training = TrainingBatches(data, self)
        self._loaded_for = ("fit", "validate", "test") if fits else ("validate", "test")

    @property
    def fit_data(self) -> FitData:
        """What was loaded for a fit or an evaluation."""
        assert self._fit_data is not None, "nothing is loaded"
        return self._fit_data

    @property
    def training(self) -> TrainingBatches:
        """The training batches, and everything that decides them."""
        assert self._training is not None, "nothing is loaded"
        return self._training

    @property
    def table(self) -> Table:
        """What was loaded for a prediction."""
        assert self._table is not None, "nothing is loaded"
        return self._table

    @property
    def tokens(self) -> TokenStore:
        """The texts of what was loaded last."""
        return self.table.tokens if "predict" in self._loaded_for else self.fit_data.tokens

    @property
    def pairs(self) -> Pairs:
        """The training pairs, with their hard negatives."""
        return self.training.pairs

    @property
    def task(self) -> RetrievalTask:
        """Held-out questions, and the corpus that they search."""
        return self.fit_data.task

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
        return self.training.of_epoch(epoch, self.batch_size, *self._ranks())

    # Lightning's hooks.

    def prepare_data(self) -> None:
        """Reads and tokenises on one process per host, so that the others find the cache."""
        self.setup()

    def setup(self, stage: str = "") -> None:
        """Reads and tokenises, on every rank; the trainer knows the stage."""
        assert self.trainer is not None
        module: Any = self.trainer.lightning_module
        stage = str(self.trainer.state.fn.value) if self.trainer.state.fn else "fit"
        self.load(module.encoder, module.loss.needs_labels, stage)

    def train_dataloader(self) -> DataLoader[TrainBatch]:
        """The rest of the current epoch. Lightning asks for a new one each epoch."""
        assert self.trainer is not None
        epoch, start = self._position.first_of(self.trainer.current_epoch)
        batches = self.train_batches(epoch)
        return self._loader(batches, FromPosition(len(batches), start))

    def val_dataloader(self) -> DataLoader[EvalBatch]:
        """The texts of the retrieval task, in batches of similar lengths."""
        return self._text_loader(self.task.texts)

    def test_dataloader(self) -> DataLoader[EvalBatch]:
        """The batches of :meth:`val_dataloader`."""
        return self.val_dataloader()

    @property
    def predicted_texts(self) -> Ints:
        """(texts,) the distinct texts of all questions and answers, ascending."""
        assert self.table.answer is not None
        return np.unique(np.concatenate([self.table.question, self.table.answer]))

    def predict_dataloader(self) -> DataLoader[EvalBatch]:
        """The texts of :attr:`predicted_texts`."""
        return self._text_loader(self.predicted_texts)

    def _text_loader(self, texts: Ints) -> DataLoader[EvalBatch]:
        return self._loader(TextBatches(self.tokens, texts, self.eval_batch_size, *self._ranks()))

    def _loader(self, batches: Any, sampler: FromPosition | None = None) -> DataLoader[Any]:
        on_gpu = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        workers = self.num_workers
        return DataLoader(
            batches, batch_size=None, sampler=sampler, num_workers=workers, pin_memory=on_gpu
        )

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        """Moves a batch except its lengths: they are read on the CPU, without waiting for a GPU."""
        moved = super().transfer_batch_to_device(batch, device, dataloader_idx)
        return moved._replace(lengths=batch.lengths)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Notes how far the epoch is consumed; prefetched batches do not count."""
        if isinstance(batch, TrainBatch):
            assert self.trainer is not None
            self._position.note(batch, self.trainer.current_epoch)
        return batch

    # Resume.

    def state_dict(self) -> dict[str, Any]:
        """The position after the last consumed batch, and what the plan depends on."""
        training = self.training
        return ResumeState(
            *self._position.next(self.train_batches),
            mined=training.mined,
            trained_hashes=training.pairs.text_hashes,
            made_with=self.made_with(),
        ).state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues a fit at a saved position; an evaluation counts what was trained on.

        Raises:
            InputError: As :meth:`~embedft.data.resume.ResumeState.refuse_other_run`.
        """
        saved = ResumeState.of(state_dict)
        stage = "fit" if self.trainer is None else self.trainer.state.fn
        if stage == "fit":
            saved.refuse_other_run(self.made_with())
            self._position.start = saved.epoch, saved.batch
            self.training.resume(saved.mined)
        elif stage != "predict" and saved.trained_hashes is not None:
            held_out = self.fit_data.searched_pairs[1]
            self.n_trained_on = count_trained_on(held_out, saved.trained_hashes)

    def made_with(self) -> dict[str, Any]:
        """The files, in the order of the fingerprint's parts, and the settings of the plan."""
        files = {"input_jsonl": self.input_jsonl, "validation_jsonl": self.validation_jsonl}
        return {"files": files, **self.plan_settings()}

    def plan_settings(self) -> dict[str, Any]:
        """Everything that decides which rows make which batch, by its name in checkpoints."""
        fingerprint, world_size = self.fit_data.tokens.fingerprint, self._ranks()[1]
        return plan_settings(self, fingerprint, world_size, mines=self.training.mines)
