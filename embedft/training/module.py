"""The LightningModule: wires encoder, loss, optimiser and retrieval metrics; no maths of its own.

Shape suffixes: B pairs of a batch, N negatives a pair, S = B·N, P labelled pairs,
D embedding.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from embedft.data.batches import EvalBatch, TrainBatch
from embedft.data.datamodule import EmbeddingDataModule
from embedft.encoder.base_model import DEFAULT_BASE_MODEL
from embedft.encoder.encoder import Encoder
from embedft.encoder.pooling import Pooling
from embedft.errors import InputError
from embedft.evaluation.metrics import RetrievalMetrics
from embedft.evaluation.query_results import QueryResults
from embedft.inference.embed import Embeddings
from embedft.losses import (
    Loss,
    MatryoshkaLoss,
    MultipleNegativesRankingLoss,
    OnlineContrastiveLoss,
)
from embedft.recipe import AUTO, Asked, Auto, Recipe, WarmupSteps
from embedft.training.divergence import NonFiniteWatch, require_finite_weights
from embedft.training.gather import gather_rows
from embedft.training.grad_cache import embed_with_grad_cache
from embedft.training.limits import check_numbers
from embedft.training.objective import batch_loss, in_batch_accuracy
from embedft.training.optimizer import adamw, set_rate, steps_of_run
from embedft.training.prepare import prepare_batches, settle_recipe
from embedft.training.resume import SETTINGS, differences, run_settings
from embedft.training.sparse_gradients import exclude_from_ddp
from embedft.training.validation import RetrievalEvaluation

log = logging.getLogger(__name__)


class EmbeddingModule(LightningModule):
    """An encoder in training.

    Args:
        base_model: Hub id or folder of the model to start from; ``sentence-transformers/`` may be
            left out.
        loss: The loss; None is :class:`~embedft.losses.MultipleNegativesRankingLoss`.
        learning_rate: Peak rate of AdamW. ``auto``: 0.0001, or 0.000125 from 10,000 training pairs
            on.
        weight_decay: Decay of weight matrices and embeddings; biases and norms have none.
        warmup_steps: Steps of rising rate. ``auto``: 1 step in 10 of the run, at most 500.
        max_seq_length: Tokens a text at most; None takes what the base model's folder says.
        pooling: ``mean`` or ``cls``; None takes what the base model's folder says.
        normalize: Scale embeddings to length 1; None takes what the base model's folder says.
        dropout: Probability that training zeroes an activation or attention weight, from 0 to below
            1; None takes what the base model's folder says.
        chunk_size: Texts that are embedded at a time: a batch of any size then takes the memory of
            so many texts, computes each embedding twice, and has the same gradient (GradCache).
        base_share: Share of the base model's weights in ``best_model``, from 0 to below 1: a mean
            of both models keeps more of what the base model knew. ``auto``: 0.4 if fewer than 0.2%
            of the questions have several answers; else 0.3, or 0.35 from 10,000 training pairs on.
            If nDCG@10 on the held-out questions is significantly lower with it (95% interval), half
            of the share is tried, then a quarter, then none.
        query_prompt: What stands before each question, in training, measuring and the exported
            model (``query: `` for example); None takes what the base model's folder says.
        document_prompt: Likewise before each answer or context.
        freeze_layers: The embeddings and so many of the lowest layers keep the base model's
            weights; 0 freezes the embeddings alone, None nothing.
        lora: Trains low-rank adapters in place of the weights, and merges them at the end. Settings
            of peft's LoraConfig, for example ``{r: 16, lora_alpha: 32}``; None trains the weights.
        matryoshka_dims: Trains the first so many dimensions of an embedding as embeddings of their
            own, for each of these numbers, and measures them (Matryoshka); None trains the whole.
        matryoshka_weights: How much each of them counts in the loss; None is 1 for each.
    """

    # Not Lightning's usual key: its command line would let these silently override the user's.
    CHECKPOINT_HYPER_PARAMS_KEY = "embedft_hyper_parameters"

    def __init__(
        self,
        base_model: str = DEFAULT_BASE_MODEL,
        loss: Loss | None = None,
        learning_rate: float | Auto = 2e-5,
        weight_decay: float = 0.01,
        warmup_steps: WarmupSteps = AUTO,
        max_seq_length: int | None = None,
        pooling: Pooling | None = None,
        normalize: bool | None = None,
        dropout: float | None = None,
        chunk_size: int | None = None,
        base_share: float | Auto = 0.0,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
        freeze_layers: int | None = None,
        lora: dict[str, Any] | None = None,
        matryoshka_dims: list[int] | None = None,
        matryoshka_weights: list[float] | None = None,
    ) -> None:
        super().__init__()
        check_numbers(chunk_size, base_share, learning_rate, warmup_steps, dropout, weight_decay)
        self.save_hyperparameters(ignore=["loss"])
        self.learning_rate: float | Auto = learning_rate
        self.weight_decay = weight_decay
        self.warmup_steps = warmup_steps
        self.chunk_size = chunk_size
        self.base_share: float | Auto = base_share
        self.encoder = Encoder(
            base_model,
            pooling,
            normalize,
            max_seq_length,
            query_prompt,
            document_prompt,
            lora,
            dropout,
        )
        if freeze_layers is not None:
            self.encoder.freeze(freeze_layers)
        self.loss = loss or MultipleNegativesRankingLoss()
        self.objective: Loss = self.loss
        if matryoshka_dims is not None:
            if max(matryoshka_dims, default=0) > self.encoder.embedding_dim:
                raise InputError(
                    f"matryoshka_dims: has {max(matryoshka_dims)}, the model has "
                    f"{self.encoder.embedding_dim} dimensions"
                )
            self.objective = MatryoshkaLoss(self.loss, matryoshka_dims, matryoshka_weights)
            if self.encoder.embedding_dim not in matryoshka_dims:
                log.warning(
                    "matryoshka_dims %s: without %d the whole embedding is not trained as one, nor "
                    "can it be expected to gain",
                    matryoshka_dims,
                    self.encoder.embedding_dim,
                )
        elif matryoshka_weights is not None:
            raise InputError("matryoshka_weights: need matryoshka_dims, too")
        self.metrics = RetrievalMetrics()
        dims = [dim for dim in matryoshka_dims or () if dim < self.encoder.embedding_dim]
        self.metrics_at = nn.ModuleDict({str(dim): RetrievalMetrics() for dim in dims})
        self._recipe: Recipe | None = None
        self._around_batches = ExitStack()
        self._watch = NonFiniteWatch()
        self._evaluation: RetrievalEvaluation
        self._of_base: Embeddings | None = None  # of all texts, until the base model is measured
        self.last_evaluation: dict[str, float] = {}
        """Metrics of the latest evaluation, without prefix."""
        self.last_query_results: QueryResults
        """What the latest evaluation found, question by question."""

    @property
    def data(self) -> EmbeddingDataModule:
        """The datamodule of the trainer."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]  # set by Lightning, untyped
        assert isinstance(data, EmbeddingDataModule)
        return data

    # Training.

    def setup(self, stage: str) -> None:
        """Takes the word table's gradient from DDP, before that wraps this; settles ``auto``."""
        if stage == "fit":
            exclude_from_ddp(self, self.encoder)
            self.settle_recipe(self.trainer, self.data)

    def settle_recipe(self, trainer: Trainer, data: EmbeddingDataModule) -> None:
        """Settles every ``auto`` of a run, once; see :mod:`embedft.recipe`.

        Args:
            trainer: Of the run.
            data: Has loaded its data.
        """
        if self._recipe is None or self._recipe is not data.recipe:
            asked = Asked(
                learning_rate=self.learning_rate,
                warmup_steps=self.warmup_steps,
                base_share=self.base_share,
            )
            self._recipe = settle_recipe(trainer, data, self.loss, asked)

    def use_recipe(self, recipe: Recipe, data: EmbeddingDataModule) -> None:
        """Takes a recipe in place of the one that :meth:`settle_recipe` would choose."""
        self._recipe = recipe
        data.use_recipe(recipe)

    @property
    def recipe(self) -> Recipe:
        """What the run takes, once its data is read."""
        assert self._recipe is not None, "settle_recipe has not been called"
        return self._recipe

    def on_fit_start(self) -> None:
        """Warns of labels that the loss would leave out; refuses negatives that it can't take.

        Raises:
            InputError: The loss can't leave out a negative that a row does not have.
        """
        if self.data.n_hard_negatives and not self.loss.needs_labels and not self.loss.takes_mask:
            raise InputError(
                f"loss {type(self.loss).__name__}: takes no hard negatives; give its forward the "
                "parameters negatives_BND and mask_BC, or leave them out with "
                "--data.hard_negatives 0"
            )
        labels = self.data.pairs.labels
        if isinstance(self.loss, OnlineContrastiveLoss) and labels is not None:
            others = int(((labels != 0) & (labels != 1)).sum())
            if others:
                log.warning(
                    "%d of %d labels are neither 0 nor 1: OnlineContrastiveLoss leaves those pairs "
                    "out, ContrastiveLoss and CosineSimilarityLoss use them",
                    others,
                    len(labels),
                )

    def on_train_start(self) -> None:
        """Gives the optimiser of a resumed run the rate and decay that were asked for now."""
        learning_rate = self.recipe.learning_rate
        assert learning_rate is not None
        for optimizer, scheduler in zip(
            self.trainer.optimizers, self.trainer.lr_scheduler_configs, strict=True
        ):
            set_rate(optimizer, scheduler.scheduler, learning_rate, self.weight_decay)

    def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
        """One loss; reseeded, so a step does not depend on what ran before it."""
        # torch.manual_seed would also queue the seed for each kind of device there might be, with
        # a stack trace, at every step.
        torch.default_generator.manual_seed(batch.seed)
        if self.device.type != "cpu":
            torch.get_device_module(self.device).manual_seed(batch.seed)
        self._batch = batch
        rows_GKD = self._all_rows(batch)
        anchor_GD, positive_GD = rows_GKD[:, 0], rows_GKD[:, 1]
        negatives_GND = rows_GKD[:, 2:] if rows_GKD.shape[1] > 2 else None
        loss = batch_loss(
            self.objective, anchor_GD, positive_GD, negatives_GND, batch.labels, batch.candidates
        )
        self._check_finite(loss, "loss")
        # On a GPU a metric of the bar would be waited for at each step: GpuProgressBar shows it.
        in_bar = loss.device.type == "cpu"
        self.log("train/loss", loss.detach(), prog_bar=in_bar, batch_size=len(rows_GKD))
        if self._logs_this_step():
            self.log("train/in_batch_accuracy", in_batch_accuracy(anchor_GD, positive_GD))
            self.log("train/learning_rate", self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]
        return loss * self.trainer.world_size  # DDP takes the mean over ranks

    def _all_rows(self, batch: TrainBatch) -> Tensor:
        """(G, 2 + N, D) embeddings of the rows of all ranks: anchor, positive, N negatives."""
        embeddings = embed_with_grad_cache(
            self.encoder, batch.input_ids, batch.lengths, self.chunk_size
        )
        count = max(1, len(batch.pairs))
        anchor_BD, positive_BD = embeddings[:count], embeddings[count : 2 * count]
        negatives_SD = embeddings[2 * count :]
        if batch.candidates is not None:  # zeros where a row has fewer
            slots = count * batch.candidates.present.shape[1]
            empty_SD = negatives_SD.new_zeros(slots, negatives_SD.shape[1])
            negatives_SD = empty_SD.index_copy(0, batch.candidates.filled_slots, negatives_SD)
        negatives_BND = negatives_SD.view(count, -1, embeddings.shape[1])
        rows_BKD = torch.cat([torch.stack([anchor_BD, positive_BD], dim=1), negatives_BND], dim=1)
        if self.trainer.world_size == 1:
            return rows_BKD
        return gather_rows(rows_BKD, batch.pairs_per_rank, self.global_rank, self.all_gather)  # type: ignore[arg-type]

    def _check_finite(self, value: Tensor, name: str) -> None:
        self._watch.check(value, name, self.global_step + 1, self._batch, self.data)

    def _logs_this_step(self) -> bool:
        return (self.global_step + 1) % self.trainer.log_every_n_steps == 0  # type: ignore[attr-defined,no-any-return]

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Lightning's clipping, with one norm for the clipping and the log."""
        limit = max(0.0, gradient_clip_val or 0.0)
        if limit and gradient_clip_algorithm not in (None, "norm"):
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
            return
        if not (limit or self._logs_this_step()):
            return
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        trained = [parameter for parameter in parameters if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in trained])
        if self.trainer.precision != "16-mixed":  # there it may be: its scaler leaves the step out
            self._check_finite(norm, "gradient norm")
        if self._logs_this_step():
            self.log("train/grad_norm", norm)
        # On a CPU a look at the norm is free, and scaling by 1 is not.
        if limit and (norm.device.type != "cpu" or not norm < limit):
            torch.nn.utils.clip_grads_with_norm_(trained, limit, norm)

    def optimizer_zero_grad(
        self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer
    ) -> None:
        """Drops the gradients, but keeps the memory of the largest."""
        self.encoder.reclaim_gradients()
        optimizer.zero_grad()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with linear warm-up and decay over the exact number of steps."""
        trainer, data = self.trainer, self.data
        self._of_base = prepare_batches(self.encoder, data, trainer)
        return adamw(
            self.encoder,
            self.recipe,
            self.weight_decay,
            steps_of_run(trainer, data),
            fused=trainer.precision != "16-mixed",  # there it would unscale after the clipping
        )

    # What a resumed run must know.

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what the run depends on.

        Raises:
            RunFailedError: A weight is NaN or infinite: the earlier checkpoint stays.
        """
        require_finite_weights(self.encoder, self.global_step)
        checkpoint[SETTINGS] = self._run_settings()

    def _run_settings(self) -> dict[str, Any]:
        settings = {**self.hparams, **self.recipe.settings()}
        return run_settings(self.trainer, self.data, self.loss, settings)

    def refuse_other_layers(self, checkpoint: dict[str, Any]) -> None:
        """Refuses to go on with an optimiser of other weights.

        Raises:
            InputError: The checkpoint was made with other layers frozen.
        """
        was = checkpoint.get(SETTINGS, {}).get("freeze_layers")
        now = self.hparams["freeze_layers"]
        if was != now:
            raise InputError(
                f"the checkpoint was made with freeze_layers {was}, now {now}: its optimiser can't "
                "be continued; resume with the same, or start a new run without --ckpt_path last"
            )

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Says what of it is no longer so.

        Raises:
            InputError: It was made with other layers frozen.
        """
        if self.trainer.state.fn != "fit":
            return
        self.refuse_other_layers(checkpoint)
        before = checkpoint.get(SETTINGS, {})
        changed = differences(before, self._run_settings())
        if changed:
            log.warning(
                "resume: not the run that was stopped, the settings of now hold: %s",
                "; ".join(changed),
            )

    # Evaluation, in training/validation.py.

    def _finish_evaluation(self, prefix: Literal["val", "test"]) -> None:
        self.forget_cast_weights()
        self.last_evaluation, self.last_query_results = self._evaluation.finish()
        del self._evaluation
        self.log_dict(
            {f"{prefix}/{name}": value for name, value in self.last_evaluation.items()},
            prog_bar=False,
        )

    def _cast_weights_once(self) -> None:
        """One autocast around all batches: it casts a weight once, not once a batch."""
        precision = self.trainer.precision_plugin
        if isinstance(precision, MixedPrecision):
            self._around_batches.enter_context(precision.forward_context())

    def forget_cast_weights(self) -> None:
        """Before anything else is computed, before training changes them, and after an error."""
        self._around_batches.close()

    def on_validation_epoch_start(self) -> None:
        """Makes room for the embeddings."""
        known = self._of_base if self.trainer.sanity_checking else None
        self._evaluation = RetrievalEvaluation(
            self.encoder,
            self.objective,
            self.metrics,
            self.metrics_at,
            self.data,
            self.trainer,
            known,
        )
        self._of_base = None
        self._cast_weights_once()

    def validation_step(self, batch: EvalBatch, batch_idx: int) -> None:
        """Embeds some texts."""
        self._evaluation.embed(batch)

    def on_validation_epoch_end(self) -> None:
        """Searches, and logs ``val/...``."""
        self._finish_evaluation("val")

    def on_test_epoch_start(self) -> None:
        """As for validation."""
        self.on_validation_epoch_start()

    def test_step(self, batch: EvalBatch, batch_idx: int) -> None:
        """As for validation."""
        self._evaluation.embed(batch)

    def on_test_epoch_end(self) -> None:
        """As for validation, under ``test/...``."""
        self._finish_evaluation("test")

    def on_predict_start(self) -> None:
        """Casts weights once."""
        self._cast_weights_once()

    def on_predict_end(self) -> None:
        """Drops the cast weights."""
        self.forget_cast_weights()

    def predict_step(self, batch: EvalBatch, batch_idx: int) -> tuple[Tensor, Tensor]:
        """Which texts, and their embeddings."""
        return batch.texts, self.encoder(batch.input_ids, batch.lengths)
