"""The subcommand ``mine``: for each question the wrong answers that a model ranks high."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import torch

from embedft.data.datamodule import EmbeddingDataModule
from embedft.data.pairs import RELEVANT
from embedft.data.texts import stream_rows
from embedft.encoder.base_model import DEFAULT_BASE_MODEL
from embedft.encoder.encoder import Encoder
from embedft.errors import InputError, check_at_least
from embedft.inference.embed import one_device_trainer
from embedft.inference.embedding_file import EmbeddingFile
from embedft.inference.hard_negatives import (
    RELATIVE_MARGIN,
    few_negatives_problem,
    find_pair_negatives,
)
from embedft.table.jsonl import numbered_lines
from embedft.table.keys import dense_ids
from embedft.table.record import normalize_text
from embedft.tools.files import replacing_file
from embedft.tools.progress import progress

log = logging.getLogger(__name__)


def mine(
    input_jsonl: str,
    output_jsonl: str,
    base_model: str = DEFAULT_BASE_MODEL,
    num_negatives: int = 3,
    relative_margin: float = RELATIVE_MARGIN,
    max_seq_length: int | None = None,
    eval_batch_size: int = 64,
    accelerator: str = "auto",
    precision: str = "auto",
    cache_dir: str | None = None,
    overwrite: bool = False,
) -> None:
    """Copies the rows of a file and adds mined ``negatives`` after their own.

    A negative is another row's answer that is similar to the question by the model. It is never an
    answer of the row's file or of a row with the same question. An answer more similar to
    the question than 1 - ``relative_margin`` times the row's own answer may be right as well, and
    is left out. If a run is interrupted, the same command continues it.

    Args:
        input_jsonl: JSONL file as for ``fit``.
        output_jsonl: File to write.
        base_model: Hub id or folder of the model that mines; it may be a tuned model.
        num_negatives: Maximum negatives per row, the most similar first.
        relative_margin: From 0 to 1. A larger margin leaves out more answers that may be right.
        max_seq_length: Maximum tokens per text; default: the model's own limit.
        eval_batch_size: Texts to embed at a time.
        accelerator: Lightning's: ``auto``, ``cpu``, ``gpu``, ...
        precision: Lightning's, or ``auto``: bf16 if the hardware supports it.
        cache_dir: Folder of tokenised texts, as for ``fit``.
        overwrite: Replace an existing file.

    Raises:
        InputError: The input or a setting can't be used, or the file exists.
    """
    target = Path(output_jsonl)
    if target.exists() and not overwrite:
        raise InputError(f"{target}: exists already; give another --output_jsonl or --overwrite")
    check_at_least(1, num_negatives=num_negatives)
    if not 0 <= relative_margin <= 1:
        raise InputError(f"relative_margin: is {relative_margin}, must lie from 0 to 1")
    encoder = Encoder(base_model, max_seq_length=max_seq_length)
    data = EmbeddingDataModule(input_jsonl, eval_batch_size=eval_batch_size, cache_dir=cache_dir)
    data.load(encoder, False, "predict")
    trainer = one_device_trainer(accelerator, precision)
    embeddings = EmbeddingFile(target, data.tokens, data.predicted_texts, encoder, trainer)
    done = len(embeddings.texts) - len(embeddings.missing)
    if done:
        log.info("mining: %d texts are already embedded", done)
    embeddings.fill(data.eval_batch_size, "embedding")
    answer = data.table.answer
    assert answer is not None
    rows = np.arange(len(data.table))
    if data.table.label is not None:
        rows = rows[data.table.label >= RELEVANT]
    found_RN, scores_RN = find_pair_negatives(
        rows,
        torch.from_numpy(embeddings.lookup(data.table.question[rows])),
        lambda rows: torch.from_numpy(embeddings.lookup(answer[rows])),
        data.table.answer_hash,
        (dense_ids(data.table.question_hash), dense_ids(data.table.file_hash)),
        count=num_negatives,
        relative_margin=relative_margin,
    )
    negatives = [found_N[found_N >= 0].tolist() for found_N in found_RN]
    _write(target, data, dict(zip(rows.tolist(), negatives, strict=True)))
    embeddings.remove()
    if problem := few_negatives_problem(int((found_RN >= 0).any(axis=1).sum()), len(rows)):
        log.warning("%s", problem)
    count = int((found_RN >= 0).sum())
    short = int((found_RN < 0).any(axis=1).sum())
    print(
        f"{target}: {count} negatives for {len(rows)} rows, mean similarity "
        f"{np.nanmean(scores_RN) if count else float('nan'):.3f}"
        + (f"; {short} rows have fewer than {num_negatives}" if short else "")
    )


def _write(target: Path, data: EmbeddingDataModule, negatives: dict[int, list[int]]) -> None:
    """Writes the valid rows unchanged and in order, each with the texts of its negatives."""
    wanted = {row for rows in negatives.values() for row in rows}
    rows = progress(stream_rows(data), total=len(data.table), desc="reading", unit=" rows")
    texts = {index: row.answer for index, row in enumerate(rows) if index in wanted}
    lines = numbered_lines(Path(data.input_jsonl))
    with (
        replacing_file(target) as temporary,
        # A lone surrogate in a field that embedft does not read stays an escape.
        temporary.open("w", encoding="utf-8", errors="backslashreplace") as stream,
    ):
        rows = progress(stream_rows(data), total=len(data.table), desc="writing", unit=" rows")
        for index, row in enumerate(rows):
            entry = json.loads(next(line for number, line, _ in lines if number == row.line))
            found = [texts[other] for other in negatives.get(index, [])]
            own = {normalize_text(text) for text in row.negatives}
            new = [text for text in found if normalize_text(text) not in own]
            entry["negatives"] = [*row.negatives, *new]
            stream.write(json.dumps(entry, ensure_ascii=False) + "\n")
