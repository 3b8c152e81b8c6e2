"""The LightningModule: wires encoder, loss, optimiser and retrieval metrics; no maths of its own.

Shape suffixes: B pairs of a batch, N negatives a pair, S = B·N, P labelled pairs,
D embedding.
"""

from __future__ import annotations

import logging
from functools import cached_property
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from embedft.data.batches import TrainBatch
from embedft.encoder.base_model import DEFAULT_BASE_MODEL
from embedft.encoder.digest import weights_digest
from embedft.encoder.encoder import Encoder
from embedft.encoder.pooling import Pooling
from embedft.losses import Loss
from embedft.recipe import AUTO, LEARNING_RATE, WarmupSteps
from embedft.training.divergence import NonFiniteWatch, require_finite_weights
from embedft.training.evaluation_hooks import EvaluationHooks
from embedft.training.gather import gather_rows
from embedft.training.grad_cache import embed_with_grad_cache
from embedft.training.limits import check_loss_fits_data, check_numbers
from embedft.training.objective import batch_loss, by_pair, in_batch_accuracy, training_objective
from embedft.training.optimizer import adamw, set_rate, steps_of_run
from embedft.training.optimizer_state import refuse_bad_state, take_progress_only
from embedft.training.prepare import prepare_batches
from embedft.training.resume import (
    BASE_WEIGHTS,
    SETTINGS,
    differences,
    refuse_other_weights,
    run_settings,
)
from embedft.training.sparse_gradients import exclude_from_ddp

log = logging.getLogger(__name__)


class EmbeddingModule(EvaluationHooks):
    """Trains an encoder on pairs, and evaluates it by retrieval.

    Args:
        base_model: Hub id or folder of the model to start from; ``sentence-transformers/`` may be
            left out.
        loss: The loss; default: :class:`~embedft.losses.MultipleNegativesRankingLoss`.
        learning_rate: Peak learning rate of AdamW.
        weight_decay: Weight decay of matrices and embeddings; biases and norms have none.
        warmup_steps: Warm-up steps. ``auto``: 1 step in 10 of the run, at most 500.
        max_seq_length: Maximum tokens per text; default: the base model's own limit.
        pooling: ``mean``, ``cls``, ``max`` or ``lasttoken``; default: the base model's own.
        normalize: Scale embeddings to unit length; default: as the base model does.
        dropout: Probability that training zeroes an activation or attention weight, from 0 to below
            1; default: the base model's own.
        chunk_size: Texts that are embedded at a time (GradCache): a batch of any size then needs
            the memory of this many texts. Each embedding is computed twice; gradients are equal.
        base_share: Share of the base model's weights in ``best_model``, from 0 to below 1: a mean
            of both models keeps more of what the base model knew. If nDCG@10 on the held-out
            questions is significantly lower with it (95% interval), half of the share is tried,
            then a quarter, then none.
        query_prompt: Text before each question, in training, evaluation and the exported model,
            for example ``query: ``; default: the base model's own.
        document_prompt: Text before each answer or context; default: the base model's own.
        freeze_layers: Number of lowest layers that keep the base model's weights, as do the
            embeddings; 0 freezes only the embeddings; default: nothing is frozen.
        lora: Trains low-rank adapters instead of the weights, and merges them at the end. Settings
            of peft's LoraConfig, for example ``{r: 16, lora_alpha: 32}``; default: no adapters.
        matryoshka_dims: For each of these numbers, the first dimensions of an embedding are also
            trained and evaluated as an embedding (Matryoshka); default: only the whole.
        matryoshka_weights: Weight of each of these in the loss; default: 1 each.
    """

    # Not Lightning's usual key: its command line would let these silently override the user's.
    CHECKPOINT_HYPER_PARAMS_KEY = "embedft_hyper_parameters"

    def __init__(
        self,
        base_model: str = DEFAULT_BASE_MODEL,
        loss: Loss | None = None,
        learning_rate: float = LEARNING_RATE,
        weight_decay: float = 0.01,
        warmup_steps: WarmupSteps = AUTO,
        max_seq_length: int | None = None,
        pooling: Pooling | None = None,
        normalize: bool | None = None,
        dropout: float | None = None,
        chunk_size: int | None = None,
        base_share: float = 0.0,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
        freeze_layers: int | None = None,
        lora: dict[str, Any] | None = None,
        matryoshka_dims: list[int] | None = None,
        matryoshka_weights: list[float] | None = None,
    ) -> None:
        check_numbers(chunk_size, base_share, learning_rate, warmup_steps, dropout, weight_decay)
        encoder = Encoder(
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
            encoder.freeze(freeze_layers)
        super().__init__(encoder, loss, matryoshka_dims)
        self.save_hyperparameters(ignore=["loss"])
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.warmup_steps = warmup_steps
        self.chunk_size = chunk_size
        self.base_share = base_share
        self.objective = training_objective(
            self.loss, encoder.embedding_dim, matryoshka_dims, matryoshka_weights
        )
        self._watch = NonFiniteWatch()

    def setup(self, stage: str) -> None:
        """Takes the token table's gradient from DDP before DDP wraps this."""
        if stage == "fit":
            exclude_from_ddp(self, self.encoder)
            _ = self.base_digest  # now: the folder may change while the run trains

    def on_fit_start(self) -> None:
        """Refuses hard negatives that the loss can't take; warns of labels that it leaves out.

        Raises:
            InputError: The loss can't leave out a hard negative that a pair does not have.
        """
        check_loss_fits_data(self.loss, self.data)

    def on_train_start(self) -> None:
        """Gives the optimiser of a resumed run the new learning rate and weight decay."""
        for optimizer, scheduler in zip(
            self.trainer.optimizers, self.trainer.lr_scheduler_configs, strict=True
        ):
            set_rate(optimizer, scheduler.scheduler, self.learning_rate, self.weight_decay)

    def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
        """The loss of a batch; reseeded, so a step does not depend on what ran before it."""
        # torch.manual_seed would queue a stack trace for each kind of device, at every step.
        torch.default_generator.manual_seed(batch.seed)
        if self.device.type != "cpu":
            torch.get_device_module(self.device).manual_seed(batch.seed)
        self._batch = batch
        pairs_GKD = self._embed(batch)
        anchor_GD, positive_GD = pairs_GKD[:, 0], pairs_GKD[:, 1]
        negatives_GND = pairs_GKD[:, 2:] if pairs_GKD.shape[1] > 2 else None
        loss = batch_loss(
            self.objective, anchor_GD, positive_GD, negatives_GND, batch.labels, batch.candidates
        )
        self._check_finite(loss, "loss")
        # On a GPU the progress bar would wait for the loss at each step: GpuProgressBar shows it.
        in_bar = loss.device.type == "cpu"
        self.log("train/loss", loss.detach(), prog_bar=in_bar, batch_size=len(pairs_GKD))
        if self._logs_this_step():
            self.log("train/in_batch_accuracy", in_batch_accuracy(anchor_GD, positive_GD))
            self.log("train/learning_rate", self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]
        return loss * self.trainer.world_size  # DDP takes the mean over ranks

    def _embed(self, batch: TrainBatch) -> Tensor:
        """(G, 2 + N, D) embeddings of the pairs of all ranks: anchor, positive, N negatives."""
        embeddings = embed_with_grad_cache(
            self.encoder, batch.input_ids, batch.lengths, self.chunk_size
        )
        pairs_BKD = by_pair(embeddings, batch)
        if self.trainer.world_size == 1:
            return pairs_BKD
        return gather_rows(pairs_BKD, batch.pairs_per_rank, self.global_rank, self.all_gather)  # type: ignore[arg-type]

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
        """Lightning's clipping, which takes no fused optimiser; the norm is computed once."""
        limit = gradient_clip_val or 0.0
        if not (limit or self._logs_this_step()):
            return
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        trained = [parameter for parameter in parameters if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in trained])
        if self.trainer.precision != "16-mixed":  # its scaler skips such steps
            self._check_finite(norm, "gradient norm")
        if self._logs_this_step():
            self.log("train/grad_norm", norm)
        # On a CPU, reading the norm is free and scaling by 1 is not.
        if limit and gradient_clip_algorithm == "value":
            torch.nn.utils.clip_grad_value_(trained, limit)
        elif limit and (norm.device.type != "cpu" or not norm < limit):
            torch.nn.utils.clip_grads_with_norm_(trained, limit, norm)

    def optimizer_zero_grad(
        self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer
    ) -> None:
        """Drops the gradients, but keeps the memory of the largest one."""
        self.encoder.reclaim_gradients()
        optimizer.zero_grad()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with linear warm-up and decay over the exact number of steps."""
        trainer, data = self.trainer, self.data
        self._of_base = prepare_batches(self.encoder, data, trainer)
        return adamw(
            self.encoder,
            self.learning_rate,
            self.warmup_steps,
            self.weight_decay,
            steps_of_run(trainer, data),
            fused=trainer.precision != "16-mixed",  # fused would unscale after clipping
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the settings that the weights depend on.

        Raises:
            RunFailedError: A weight is NaN or infinite: the earlier checkpoint stays.
        """
        require_finite_weights(self.encoder, self.global_step)
        checkpoint[SETTINGS] = self._run_settings()

    def _run_settings(self) -> dict[str, Any]:
        settings = {**self.hparams, BASE_WEIGHTS: self.base_digest}
        return run_settings(self.trainer, self.data, self.loss, settings)

    @cached_property
    def base_digest(self) -> str:
        """Digest of the base model's weights when the run began."""
        return weights_digest(self.encoder.base)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Logs which settings differ from the interrupted run.

        Raises:
            InputError: The checkpoint is of other layers, another base model or optimiser.
        """
        if self.trainer.state.fn != "fit":
            return
        refuse_other_weights(checkpoint, self.hparams["freeze_layers"], self.base_digest)
        refuse_bad_state(checkpoint, self.trainer, self.encoder)
        take_progress_only(checkpoint, self.encoder)
        # Lightning converts after it restores, which would round 64-true's weights to float32.
        self.trainer.precision_plugin.convert_module(self)
        before = checkpoint.get(SETTINGS, {})
        changed = differences(before, self._run_settings())
        if changed:
            log.warning(
                "resume: settings differ from the interrupted run; the new values are used: %s",
                "; ".join(changed),
            )
