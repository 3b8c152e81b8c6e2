"""One evaluation of a module: embeds every text once, then ranks the corpus for each query.

Shape suffixes: X texts of the task, Q queries, C corpus documents, P held-out pairs, D embedding.
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
        objective: The training loss, for the loss of held-out batches.
        metrics: Of the full embedding; reset here.
        metrics_at: Of the first dimensions of an embedding, by their number as text; reset here.
        data: Has loaded its data.
        trainer: Gives device and ranks.
        known: The texts' embeddings by the encoder's weights if they are known already, else None.
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
        self.local = slice(self.trainer.global_rank, None, self.trainer.world_size)
        """The queries that this rank evaluates."""
        texts, device = self.task.texts, trainer.strategy.root_device
        self.texts_X = torch.from_numpy(texts).to(device)
        self.embeddings_XD = torch.zeros(
            len(texts), encoder.embedding_dim, device=device, dtype=torch.float32
        )

    def embed(self, batch: EvalBatch) -> None:
        """Embeds the texts of a batch."""
        index = torch.searchsorted(self.texts_X, batch.texts)
        if self.known is None:
            embeddings = self.encoder(batch.input_ids, batch.lengths)
        else:
            known = self.known.lookup(batch.texts.cpu().numpy())
            embeddings = torch.from_numpy(known).to(self.texts_X.device)
        self.embeddings_XD[index] = embeddings.to(self.embeddings_XD.dtype)

    def embeddings_of(self, texts: Ints) -> Tensor:
        """(texts, D) embeddings of texts of the task; call it after :meth:`finish`."""
        return self.embeddings_XD[self._indices(texts)]

    def finish(self) -> tuple[dict[str, float], QueryResults]:
        """The metrics by name, without prefix, and the results by query.

        Raises:
            RunFailedError: An embedding is NaN or infinite.
        """
        if self.trainer.world_size > 1:  # each rank filled its own rows, the others are zero
            self.embeddings_XD = self.trainer.strategy.reduce(self.embeddings_XD, reduce_op="sum")
        if not all_finite(self.embeddings_XD):  # NaN would rank first
            raise RunFailedError(
                "evaluation: an embedding is NaN or infinite; the model's weights are broken, or "
                "--precision 32-true is needed"
            )
        results = evaluate_queries(
            self.embeddings_XD,
            self.task,
            self.data.fit_data.task_name,
            self.local,
            self._sum_over_ranks,
        )
        self.metrics.reset()
        for values in results.values[self.local]:
            self.metrics.update(values)
        metrics = self.metrics.compute() | self._metrics_of_first_dimensions() | self._losses()
        return metrics, results

    def _sum_over_ranks(self, tensor: Tensor) -> Tensor:
        """The sum over ranks of a tensor on the CPU."""
        if self.trainer.world_size == 1:
            return tensor
        strategy = self.trainer.strategy
        summed = strategy.reduce(tensor.to(strategy.root_device), reduce_op="sum")
        return summed.cpu()

    def _metrics_of_first_dimensions(self) -> dict[str, float]:
        """``ndcg@10/dim_64`` and the like, for each of ``matryoshka_dims``."""
        values: dict[str, float] = {}
        task, local = self.task, self.local
        for dim, metrics in self.metrics_at.items():
            assert isinstance(metrics, RetrievalMetrics)
            metrics.reset()
            first = self.embeddings_XD[:, : int(dim)]
            queries_QD = first[self._indices(task.queries[local])]
            corpus_CD = first[self._indices(task.corpus)]
            for ranking in rank_documents(queries_QD, corpus_CD, task.relevant[local]):
                metrics.update(query_values(ranking.ranks))
            values |= {f"{name}/dim_{dim}": value for name, value in metrics.compute().items()}
        return values

    def _losses(self) -> dict[str, float]:
        """``loss`` and ``cosine_pair_loss`` of the held-out pairs.

        The first is the training loss of held-out batches, the second the mean of 1 - cosine over
        the pairs that are relevant.
        """
        pairs, task = self.data.fit_data.validation_pairs, self.task
        texts = task.corpus[np.searchsorted(task.corpus_ids, pairs.positive_id)]
        anchor_PD = self.embeddings_XD[self._indices(pairs.anchor)]
        positive_PD = self.embeddings_XD[self._indices(texts)]
        loss = self._training_loss(anchor_PD, positive_PD)
        if pairs.labels is not None:
            relevant = torch.from_numpy(pairs.relevant)
            anchor_PD, positive_PD = anchor_PD[relevant], positive_PD[relevant]
        similarity = nn.functional.cosine_similarity(anchor_PD, positive_PD)
        return {"loss": loss, "cosine_pair_loss": float((1 - similarity).mean())}

    def _training_loss(self, anchor_PD: Tensor, positive_PD: Tensor) -> float:
        """The mean of the training loss over the held-out pairs, in batches as in training."""
        pairs, data = self.data.fit_data.validation_pairs, self.data
        plan = plan_epoch(
            pairs.anchor_id,
            pairs.positive_id,
            batch_size=data.global_batch_size,
            seed=0,
            epoch=0,
        )
        n_negatives = data.training.n_drawn_negatives if pairs.can_draw_negatives else 0
        total = 0.0
        for number in range(len(plan)):
            batch = plan[number]
            negatives = labels = None
            if n_negatives:
                drawn = draw_negatives(pairs, batch, n_negatives, 0, (0, number))
                negatives = positive_PD[torch.from_numpy(drawn)]
            if pairs.labels is not None:
                labels = torch.from_numpy(pairs.labels[batch]).to(positive_PD.device)
            index = torch.from_numpy(batch)
            candidates = Candidates.of(
                pairs, batch, pairwise_negatives=data.training.pairwise_negatives
            )
            loss = batch_loss(
                self.objective,
                anchor_PD[index],
                positive_PD[index],
                negatives,
                labels,
                candidates,
            )
            total += float(loss) * len(batch)
        return total / len(pairs)

    def _indices(self, texts: Ints) -> Tensor:
        """The rows of the embeddings in which these texts are."""
        return torch.from_numpy(np.searchsorted(self.task.texts, texts))
