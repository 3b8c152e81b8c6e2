"""Search among the distinct answers of a file; their embeddings are kept on disk.

Shape suffixes: Q questions, K hits per question, D embedding.
"""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray

from embedft.data.batches import EvalBatch
from embedft.data.load import read_settings
from embedft.encoder.encoder import Encoder
from embedft.errors import InputError, RunFailedError, check_at_least
from embedft.inference.documents import DocumentFile, write_documents
from embedft.inference.embed import embed_texts, one_device_trainer
from embedft.inference.embedding_file import EmbeddingFile, embedding_fingerprint
from embedft.table.jsonl import OnBadRows, refuse_pipe, stream_records
from embedft.table.keys import Ints, first_equal
from embedft.table.read_report import ReadCounts
from embedft.table.record import Record
from embedft.table.settings import default_cache_dir
from embedft.table.table import Table, read_table
from embedft.tools.files import checksum, replacing_folder, write_json

Field = Literal["answer", "context"]

FORMAT = 2
"""Version of the files of an index."""

_FILES = ("index.faiss", "documents.jsonl", "offsets.npy")

_BLOCK = 1 << 16
"""Embeddings added to the FAISS index at a time."""


class Hit(NamedTuple):
    """One search result.

    Attributes:
        score: Cosine similarity, from -1 to 1.
        ids: The ids of the rows that have this answer.
        file_names: Their distinct file names; empty if they have none.
        text: The answer, or the context.
    """

    score: float
    ids: list[str]
    file_names: list[str]
    text: str


class SearchIndex:
    """An exact search by a model among the distinct answers of a file.

    Equal answers count as one; "5 mW" and "5 MW" are two. The folder of an
    index is named by the bytes of the file, the weights and settings of the model, and the
    precision, so another file or model has another index. An interrupted embedding resumes.

    Args:
        model: Folder or hub id of the model that searches.
        input_jsonl: JSONL file as for ``fit``.
        field: ``answer``, or ``context`` to search the passages; every row must then have one.
        on_bad_rows: ``error`` refuses a file with bad rows, ``skip`` leaves them out.
        eval_batch_size: Texts per batch.
        accelerator: As for Lightning: ``auto``, ``cpu``, ``gpu``, ...
        precision: As for Lightning, or ``auto``.
        cache_dir: Folder of tokenised texts, as for ``fit``.
        index_dir: Folder of the indexes; default ``$XDG_CACHE_HOME/embedft/indexes`` or
            ``~/.cache/embedft/indexes``. It can be deleted at any time.

    Raises:
        InputError: The input, the model or a setting can't be used, or FAISS is missing.
    """

    def __init__(
        self,
        model: str,
        input_jsonl: str,
        field: Field = "answer",
        on_bad_rows: OnBadRows = "error",
        eval_batch_size: int = 64,
        accelerator: str = "auto",
        precision: str = "auto",
        cache_dir: str | None = None,
        index_dir: str | None = None,
    ) -> None:
        check_at_least(1, eval_batch_size=eval_batch_size)
        self.model, self.input_jsonl, self.field = model, input_jsonl, field
        self.on_bad_rows, self.eval_batch_size = on_bad_rows, eval_batch_size
        self.cache_dir = Path(cache_dir) if cache_dir else default_cache_dir()
        self.trainer = one_device_trainer(accelerator, precision)
        self.encoder = _load_encoder(model)
        self._faiss = _import_faiss()  # after the model, so that a wrong model is reported first
        table = self._read()
        fingerprint = {
            "format": FORMAT,
            "field": field,
            **embedding_fingerprint(table.tokens, self.encoder, self.trainer),
        }
        root = Path(index_dir) if index_dir else default_cache_dir().with_name("indexes")
        key = hashlib.sha256(json.dumps(fingerprint).encode()).hexdigest()[:24]
        self.folder = root / key
        if not self._open():
            try:
                root.mkdir(parents=True, exist_ok=True)
                with FileLock(root / f".{key}.lock"):  # one process builds, others wait
                    if not self._open():
                        self._build(table, fingerprint)
                        self._open()
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise RunFailedError(
                        f"{root}: the index can't be written: {error.strerror}; free some space, "
                        "or give another --index_dir"
                    ) from None
                raise InputError(
                    f"{root}: the index can't be written: {error.strerror or error}; "
                    "give another --index_dir"
                ) from None

    def __len__(self) -> int:
        """The number of distinct answers."""
        return len(self._documents)

    def search(self, questions: str | Sequence[str], top_k: int = 5) -> list[list[Hit]]:
        """The most similar answers to each question, most similar first.

        Args:
            questions: One question, or a sequence of questions.
            top_k: Answers per question, at least 1; fewer if the file has fewer.

        Raises:
            InputError: A question is empty or not a string, or ``top_k`` is below 1.
        """
        check_at_least(1, top_k=top_k)
        questions = [questions] if isinstance(questions, str) else questions
        if not len(questions):
            return []
        scores_QK, index_QK = self._index.search(self._embed(questions), min(top_k, len(self)))
        return [
            [
                Hit(score, **self._documents[index])
                for score, index in zip(scores_K, index_K, strict=True)
            ]
            for scores_K, index_K in zip(scores_QK.tolist(), index_QK.tolist(), strict=True)
        ]

    def _embed(self, questions: Sequence[str]) -> NDArray[np.float32]:
        """(Q, D) unit-length embeddings, with the model's prompt for queries."""
        for question in questions:
            _check_question(question)
        embeddings_QD = np.zeros((len(questions), self.encoder.embedding_dim), np.float32)

        def put(texts: Ints, embeddings: NDArray[np.float32]) -> None:
            embeddings_QD[texts] = embeddings

        batches = []
        for start in range(0, len(questions), self.eval_batch_size):
            texts = questions[start : start + self.eval_batch_size]
            ids = self.encoder.tokenizer(
                [self.encoder.query_text(text) for text in texts],
                truncation=True,
                max_length=self.encoder.max_seq_length,
            )["input_ids"]
            batches.append(
                EvalBatch(
                    torch.tensor([token for text in ids for token in text]),
                    torch.tensor([len(text) for text in ids]),
                    start + torch.arange(len(texts)),
                )
            )
        embed_texts(self.encoder, batches, self.trainer, put)
        self._faiss.normalize_L2(embeddings_QD)
        return embeddings_QD

    def _read(self) -> Table:
        refuse_pipe(self.input_jsonl)
        in_context = self.field == "context"
        settings = read_settings(self.encoder, self.field, context_required=in_context)
        try:
            return read_table(self.input_jsonl, settings, self.cache_dir, self.on_bad_rows)
        except InputError as error:  # its message names the flags of fit
            lines = (
                line.replace("--data.positive context", "--field context") for line in error.lines
            )
            raise InputError(*lines) from None

    def _open(self) -> bool:
        """Opens the index; returns whether it exists and is complete."""
        try:
            sums = json.loads((self.folder / "made_of.json").read_text("utf-8"))["checksums"]
            if sums != _checksums(self.folder):
                return False
            self._index = self._faiss.read_index(str(self.folder / "index.faiss"))
            self._documents = DocumentFile(self.folder)
        except Exception:  # whatever a missing or damaged file raises
            return False
        return bool(self._index.ntotal == len(self) and self._documents.is_complete)

    def _build(self, table: Table, fingerprint: dict[str, Any]) -> None:
        texts = table.answer if self.field == "answer" else table.context
        assert texts is not None
        first = first_equal(texts)  # the first row of an answer represents it
        rows = np.flatnonzero(first == np.arange(len(first)))
        embeddings = EmbeddingFile(
            self.folder, table.tokens, np.unique(texts[rows]), self.encoder, self.trainer
        )
        embeddings.fill(self.eval_batch_size, f"embedding by {self.model}")
        index = self._faiss.IndexFlatIP(self.encoder.embedding_dim)
        for start in range(0, len(rows), _BLOCK):
            block = embeddings.lookup(texts[rows[start : start + _BLOCK]])
            self._faiss.normalize_L2(block)
            index.add(block)
        with replacing_folder(self.folder) as folder:
            self._faiss.write_index(index, str(folder / "index.faiss"))
            write_documents(folder, first, self._records, self.field)
            write_json(folder / "made_of.json", {**fingerprint, "checksums": _checksums(folder)})
            if self._read().tokens.fingerprint != table.tokens.fingerprint:
                raise InputError(
                    f"{self.input_jsonl}: changed while it was read. Run the command again"
                )
        embeddings.remove()

    def _records(self) -> Iterator[Record]:
        path = self.input_jsonl
        return stream_records(path, ReadCounts(path), context_required=self.field == "context")


def _checksums(folder: Path) -> dict[str, int]:
    return {name: checksum(folder / name) for name in _FILES}


def _check_question(question: object) -> None:
    if not isinstance(question, str):
        raise InputError(f"question {question!r}: is not a string")
    if not question.strip():
        raise InputError("question: is empty")
    try:
        question.encode()
    except UnicodeEncodeError:
        raise InputError(f"question {question!a}: is not UTF-8") from None


def _load_encoder(model: str) -> Encoder:
    try:
        return Encoder(model)
    except InputError as error:  # its message names the flag of fit
        raise InputError(
            str(error).replace("base_model", "model", 1).replace("--base_model", "--model")
        ) from None


def _import_faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise InputError(
            "search: FAISS is not installed. Install it with: pip install 'embedft[search]'"
        ) from None
    return faiss
