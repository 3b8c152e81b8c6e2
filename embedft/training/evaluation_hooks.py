"""The module's hooks of validation, test and prediction."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Literal

from lightning.pytorch import LightningModule
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn

from embedft.data.batches import EvalBatch
from embedft.data.datamodule import EmbeddingDataModule
from embedft.encoder.encoder import Encoder
from embedft.evaluation.metrics import NAMES, RetrievalMetrics
from embedft.evaluation.query_results import QueryResults
from embedft.inference.answer_fit import warn_of_misplaced_answers
from embedft.inference.embed import Embeddings
from embedft.losses import Loss, MultipleNegativesRankingLoss
from embedft.training.validation import RetrievalEvaluation


class EvaluationHooks(LightningModule):
    """Evaluates an encoder by retrieval: all texts are embedded once, then searched.

    Args:
        encoder: Embeds the texts.
        loss: The training loss; None is
            :class:`~embedft.losses.MultipleNegativesRankingLoss`.
        matryoshka_dims: Numbers of first dimensions that are also evaluated.
    """

    def __init__(
        self, encoder: Encoder, loss: Loss | None = None, matryoshka_dims: list[int] | None = None
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.loss = loss or MultipleNegativesRankingLoss()
        self.objective: Loss = self.loss
        self.metrics = RetrievalMetrics()
        dims = [dim for dim in matryoshka_dims or () if dim < encoder.embedding_dim]
        self.metrics_at = nn.ModuleDict({str(dim): RetrievalMetrics() for dim in dims})
        self.last_evaluation: dict[str, float] = {}
        """Metrics of the latest evaluation, without prefix."""
        self.last_query_results: QueryResults
        """Results of the latest evaluation, question by question."""
        self._around_batches = ExitStack()
        self._evaluation: RetrievalEvaluation
        self._of_base: Embeddings | None = None  # of all texts, until the base model is evaluated

    def metric_names(self) -> list[str]:
        """The names of an evaluation's metrics, without prefix."""
        at_dims = [f"{name}/dim_{dim}" for dim in self.metrics_at for name in NAMES]
        return [*NAMES, *at_dims, "loss", "cosine_pair_loss"]

    @property
    def data(self) -> EmbeddingDataModule:
        """The datamodule of the trainer."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]  # set by Lightning, untyped
        assert isinstance(data, EmbeddingDataModule)
        return data

    def _finish_evaluation(self, prefix: Literal["val", "test"]) -> None:
        self.forget_cast_weights()
        self.last_evaluation, self.last_query_results = self._evaluation.finish()
        if self.trainer.sanity_checking and self.trainer.is_global_zero:  # the base model
            warn_of_misplaced_answers(self.data, self._evaluation.embeddings_of)
        del self._evaluation
        self.log_dict(
            {f"{prefix}/{name}": value for name, value in self.last_evaluation.items()},
            prog_bar=False,
        )

    def _cast_weights_once(self) -> None:
        """One autocast context around all batches casts each weight once, not once a batch."""
        precision = self.trainer.precision_plugin
        if isinstance(precision, MixedPrecision):
            self._around_batches.enter_context(precision.forward_context())

    def forget_cast_weights(self) -> None:
        """Drops the cast weights: before training changes them, and after an error."""
        self._around_batches.close()

    def on_validation_epoch_start(self) -> None:
        """Starts an evaluation; the base model's embeddings may be known from mining."""
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
        """Embeds a batch of texts."""
        self._evaluation.embed(batch)

    def on_validation_epoch_end(self) -> None:
        """Searches the corpus and logs ``val/...``."""
        self._finish_evaluation("val")

    def on_test_epoch_start(self) -> None:
        """As in validation."""
        self.on_validation_epoch_start()

    def test_step(self, batch: EvalBatch, batch_idx: int) -> None:
        """As in validation."""
        self._evaluation.embed(batch)

    def on_test_epoch_end(self) -> None:
        """As in validation, but logs ``test/...``."""
        self._finish_evaluation("test")

    def on_predict_start(self) -> None:
        """Casts each weight once for all batches."""
        self._cast_weights_once()

    def on_predict_end(self) -> None:
        """Drops the cast weights."""
        self.forget_cast_weights()

    def predict_step(self, batch: EvalBatch, batch_idx: int) -> tuple[Tensor, Tensor]:
        """The texts' indices, and their embeddings (texts, D)."""
        return batch.texts, self.encoder(batch.input_ids, batch.lengths)
