"""Writes the embeddings of ``predict`` as NumPy files."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from contextlib import ExitStack
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
from embedft.run.folder import RunFolder, check_writable
from embedft.tools.files import replacing_file
from embedft.tools.finite import all_finite
from embedft.tools.log import RESULT

log = logging.getLogger(__name__)


def predictions_folder(folder: RunFolder) -> Path:
    """Where ``predict`` writes: into a folder, or beside it if it is a run's."""
    path = folder.path
    return (
        path.resolve().with_name(f"{path.resolve().name}-predictions")
        if folder.holds_run()
        else path
    )


def prediction_files(folder: Path) -> list[Path]:
    """The embeddings of questions and of answers, and the ids."""
    names = ("question_embeddings.npy", "answer_embeddings.npy", "ids.jsonl")
    return [folder / name for name in names]


def check_predictions(folder: Path, overwrite: bool) -> None:
    """Refuses to replace earlier predictions, or a folder that can't be written.

    Raises:
        InputError: It may not be written.
    """
    existing = [path for path in prediction_files(folder) if path.exists()]
    if existing and not overwrite:
        raise InputError(f"{existing[0]}: exists already; give another --output_dir or --overwrite")
    check_writable(folder, "--output_dir")


class PredictionWriter(BasePredictionWriter):
    """Writes ``question_embeddings.npy``, ``answer_embeddings.npy`` and ``ids.jsonl``.

    Row i of both arrays, (rows, D) float32, belongs to line i of ``ids.jsonl``. That line has the
    row's ``id``, its ``line`` in the input, and its ``file_name``.

    Args:
        folder: Folder of the files.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(write_interval="epoch")
        self.folder = folder

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
        columns = (data.table.question, data.table.answer)
        paths = prediction_files(self.folder)
        with ExitStack() as files:  # all of them are replaced, or none
            *arrays, ids = [files.enter_context(replacing_file(path)) for path in paths]
            for temporary, texts in zip(arrays, columns, strict=True):
                with temporary.open("wb") as stream:
                    np.save(stream, table.numpy()[np.searchsorted(distinct, texts)])
            with ids.open("w", encoding="utf-8") as lines:
                for row in stream_rows(data):
                    entry = {"id": row.id, "line": row.line, "file_name": row.file_name}
                    lines.write(json.dumps(entry) + "\n")
        for path, texts in zip(paths, columns, strict=False):
            log.log(RESULT, "%s: %d embeddings", path, len(texts))
        log.log(RESULT, "%s: the ids of the rows, in the same order", paths[-1])


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
