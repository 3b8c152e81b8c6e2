"""Writes the embeddings of ``predict`` as NumPy files."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from torch import Tensor

from embedft.data.datamodule import EmbeddingDataModule
from embedft.data.texts import stream_rows
from embedft.errors import InputError
from embedft.tools.files import replacing_file
from embedft.tools.finite import all_finite
from embedft.tools.log import RESULT

log = logging.getLogger(__name__)


class PredictionWriter(BasePredictionWriter):
    """Writes ``question_embeddings.npy``, ``answer_embeddings.npy`` and ``ids.jsonl``.

    Row i of both arrays, (rows, D) float32, belongs to line i of ``ids.jsonl``. That line has the
    row's ``id``, its ``line`` in the input, and its ``file_name``.

    Args:
        output_dir: Folder of the files.
    """

    def __init__(self, output_dir: str) -> None:
        super().__init__(write_interval="epoch")
        self.folder = Path(output_dir)

    def write_on_epoch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        predictions: Sequence[Any],
        batch_indices: Sequence[Any],
    ) -> None:
        """Collects the embeddings of all ranks and writes the files."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        distinct = data.predicted_texts
        table = torch.zeros(len(distinct), pl_module.encoder.embedding_dim)  # type: ignore[union-attr, arg-type]
        for texts, embeddings in predictions:
            table[np.searchsorted(distinct, texts.cpu().numpy())] = embeddings.float().cpu()
        if trainer.world_size > 1:
            table = trainer.strategy.reduce(table.to(pl_module.device), reduce_op="sum").cpu()
        _refuse_non_finite(data, table)
        if not trainer.is_global_zero:
            return
        for name, texts in (("question", data.table.question), ("answer", data.table.answer)):
            path = self.folder / f"{name}_embeddings.npy"
            with replacing_file(path) as temporary, temporary.open("wb") as stream:
                np.save(stream, table.numpy()[np.searchsorted(distinct, texts)])
            log.log(RESULT, "%s: %d embeddings", path, len(texts))
        with (
            replacing_file(self.folder / "ids.jsonl") as temporary,
            temporary.open("w", encoding="utf-8") as lines,
        ):
            for row in stream_rows(data):
                entry = {"id": row.id, "line": row.line, "file_name": row.file_name}
                lines.write(json.dumps(entry) + "\n")
        log.log(RESULT, "%s: the ids of the rows, in the same order", self.folder / "ids.jsonl")


def _refuse_non_finite(data: EmbeddingDataModule, table: Tensor) -> None:
    """Refuses embeddings that are NaN or infinite.

    Args:
        data: Has predicted the texts.
        table: (texts, D) their embeddings.

    Raises:
        InputError: There is such an embedding; the message names the first row that has it.
    """
    if all_finite(table):
        return
    bad = data.predicted_texts[~table.isfinite().all(dim=1).numpy()]
    assert data.table.answer is not None
    in_question, in_answer = (
        np.isin(texts, bad) for texts in (data.table.question, data.table.answer)
    )
    first = int(np.flatnonzero(in_question | in_answer)[0])
    row = next(row for index, row in enumerate(stream_rows(data)) if index == first)
    field = "question" if in_question[first] else "answer"
    raise InputError(
        f"{data.input_jsonl}:{row.line}: {field}: its embedding is NaN or infinite. The model's "
        "weights are broken, or it needs --precision 32-true"
    )
