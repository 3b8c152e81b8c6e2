"""One evaluation of a module: every text is embedded once, then searched.

Shape suffixes: X texts of the task, D embedding.
"""

from __future__ import annotations

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from embedft.data.batches import EvalBatch
from embedft.data.candidates import Candidates
from embedft.data.datamodule import EmbeddingDataModule
from embedft.data.negative_sampling import draw_negatives
from embedft.data.pairs import RELEVANT
from embedft.data.plan import plan_epoch
from embedft.encoder.encoder import Encoder
from embedft.errors import RunFailedError
from embedft.evaluation.metrics import RetrievalMetrics, query_values
from embedft.evaluation.query_results import QueryResults, evaluate_queries
from embedft.evaluation.retrieval import rank_documents
from embedft.inference.embed import Embeddings
from embedft.losses import Loss
from embedft.table.keys import Ints
from embedft.tools.finite import all_finite
from embedft.training.objective import batch_loss


class RetrievalEvaluation:
    """From the batches of the retrieval task's texts to its metrics.

    Args:
        encoder: Embeds the texts.
        objective: The training loss, for the loss on held-out batches.
        metrics: Of the whole embedding; reset here.
        metrics_at: Of the first dimensions of an embedding, by their number as text; reset here.
        data: Has loaded its data.
        trainer: Gives device and ranks.
        known: The texts' embeddings by the encoder's weights, if they are known already; else None.
    """

    def __init__(
        self,
        encoder: Encoder,
        objective: Loss,
        metrics: RetrievalMetrics,
        metrics_at: nn.ModuleDict,
        data: EmbeddingDataModule,
        trainer: Trainer,
        known: Embeddings | None = None,
    ) -> None:
        self.encoder, self.objective, self.known = encoder, objective, known
        self.metrics, self.metrics_at = metrics, metrics_at
        self.data, self.trainer = data, trainer
        self.task = self.data.task
        self.mine = slice(self.trainer.global_rank, None, self.trainer.world_size)
        texts, device = self.task.texts, trainer.strategy.root_device
        self.texts_X = torch.from_numpy(texts).to(device)
        self.embeddings_XD = torch.zeros(
            len(texts), encoder.embedding_dim, device=device, dtype=torch.float32
        )

    def embed(self, batch: EvalBatch) -> None:
        """Embeds some of the texts."""
        places = torch.searchsorted(self.texts_X, batch.texts)
        if self.known is None:
            embeddings = self.encoder(batch.input_ids, batch.lengths)
        else:
            known = self.known.lookup(batch.texts.cpu().numpy())
            embeddings = torch.from_numpy(known).to(self.texts_X.device)
        self.embeddings_XD[places] = embeddings.to(self.embeddings_XD.dtype)

    def finish(self) -> tuple[dict[str, float], QueryResults]:
        """Metrics by name, without prefix, and what was found, question by question.

        Raises:
            RunFailedError: An embedding is NaN or infinite.
        """
        if self.trainer.world_size > 1:  # each rank filled its own rows, the others are zero
            self.embeddings_XD = self.trainer.strategy.reduce(self.embeddings_XD, reduce_op="sum")
        if not all_finite(self.embeddings_XD):  # each would rank first
            raise RunFailedError(
                "measuring: an embedding is NaN or infinite; the model's weights are broken, or "
                "--precision 32-true is needed"
            )
        name = self.data.task_name
        results = evaluate_queries(self.embeddings_XD, self.task, name, self.mine, self._over_ranks)
        metrics = self.metrics
        metrics.reset()
        for values in results.values[self.mine]:
            metrics.update(values)
        measured = metrics.compute() | self._of_first_dimensions() | self._held_out_losses()
        return measured, results

    def _over_ranks(self, tensor: Tensor) -> Tensor:
        """The sum over ranks of a tensor on the CPU."""
        if self.trainer.world_size == 1:
            return tensor
        strategy = self.trainer.strategy
        summed = strategy.reduce(tensor.to(strategy.root_device), reduce_op="sum")
        return summed.cpu()

    def _of_first_dimensions(self) -> dict[str, float]:
        """``ndcg@10/dim_64`` and the like, for each of ``matryoshka_dims``."""
        found: dict[str, float] = {}
        task, mine = self.task, self.mine
        for dim, metrics in self.metrics_at.items():
            assert isinstance(metrics, RetrievalMetrics)
            metrics.reset()
            first = self.embeddings_XD[:, : int(dim)]
            queries_QD = first[self._places(task.queries[mine])]
            corpus_CD = first[self._places(task.corpus)]
            for ranking in rank_documents(queries_QD, corpus_CD, task.relevant[mine]):
                metrics.update(query_values(ranking.ranks))
            found |= {f"{name}/dim_{dim}": value for name, value in metrics.compute().items()}
        return found

    def _held_out_losses(self) -> dict[str, float]:
        """``loss``, the training loss on held-out batches, and ``cosine_pair_loss``, 1 - cosine.

        The latter is the mean over right pairs.
        """
        rows, task = self.data.validation_pairs, self.task
        anchors = self.embeddings_XD[self._places(rows.anchor)]
        texts = task.corpus[np.searchsorted(task.corpus_ids, rows.positive_id)]
        positives = self.embeddings_XD[self._places(texts)]
        plan = plan_epoch(
            rows.anchor_id,
            rows.positive_id,
            batch_size=self.data.global_batch_size,
            seed=0,
            epoch=0,
        )
        draws = self.data.n_drawn_negatives if rows.can_draw_negatives else 0
        total = 0.0
        for index in range(len(plan)):
            batch = plan[index]
            negatives = None
            if draws:
                drawn = draw_negatives(rows, batch, draws, 0, (0, index))
                negatives = positives[torch.from_numpy(drawn)]
            labels = None
            if rows.labels is not None:
                labels = torch.from_numpy(rows.labels[batch]).to(positives.device)
            chosen = torch.from_numpy(batch)
            candidates = Candidates.of(rows, batch, pairwise_negatives=self.data.pairwise_negatives)
            loss = batch_loss(
                self.objective,
                anchors[chosen],
                positives[chosen],
                negatives,
                labels,
                candidates,
            )
            total += float(loss) * len(batch)
        if rows.labels is not None:
            right = torch.from_numpy(rows.labels >= RELEVANT)
            anchors, positives = anchors[right], positives[right]
        similarity = nn.functional.cosine_similarity(anchors, positives)
        return {
            "loss": total / len(rows),
            "cosine_pair_loss": float((1 - similarity).mean()),
        }

    def _places(self, texts: Ints) -> Tensor:
        """Where the embeddings of some of the texts are."""
        return torch.from_numpy(np.searchsorted(self.task.texts, texts))
