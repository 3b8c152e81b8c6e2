"""Mined negatives are those of sentence-transformers, and never what may be right."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import mine_hard_negatives
from tiny import MINILM, sample_rows, write_jsonl

from embedft.cli.main import main
from embedft.data.datamodule import EmbeddingDataModule
from embedft.encoder.base_model import find_base_model
from embedft.encoder.encoder import Encoder
from embedft.inference.embed import one_device_trainer
from embedft.inference.embedding_file import EmbeddingFile
from embedft.table.keys import Ints

Capture = pytest.CaptureFixture[str]


def mined(pairs: Path, *flags: str) -> list[dict[str, object]]:
    """The rows that the command line writes."""
    target = pairs.with_name("mined.jsonl")
    main(
        [
            "mine",
            f"--input_jsonl={pairs}",
            f"--output_jsonl={target}",
            "--precision=32-true",
            *flags,
        ]
    )
    assert [path.name for path in target.parent.glob(".mined*")] == []
    return [json.loads(line) for line in target.read_text("utf-8").splitlines()]


def test_as_sentence_transformers(tmp_path: Path) -> None:
    """The same model, margin and number: the same negatives, the same order."""
    rows = [
        {"question": row["question"], "answer": row["answer"]}
        for row in {row["answer"]: row for row in sample_rows()}.values()
    ][:80]
    got = mined(write_jsonl(tmp_path / "pairs.jsonl", rows), "--relative_margin=0.2")
    model = SentenceTransformer(str(find_base_model(MINILM).folder), device="cpu")
    oracle = mine_hard_negatives(
        Dataset.from_list(rows),
        model,
        anchor_column_name="question",
        positive_column_name="answer",
        relative_margin=0.2,
        num_negatives=3,
        sampling_strategy="top",
        output_format="n-tuple",
        verbose=False,
    )
    expected = {row["question"]: [row[f"negative_{i}"] for i in (1, 2, 3)] for row in oracle}
    assert len(expected) > 40  # the oracle leaves out rows with fewer than three
    for row in got:
        if row["question"] in expected:
            assert row["negatives"] == expected[row["question"]]


def test_never_of_the_same_text_or_file(tmp_path: Path, tiny_model: Path) -> None:
    """Answers of the row's file and of rows with its question are no negatives, all others may."""
    rows = sample_rows()[:60]
    rows[30]["question"] = rows[0]["question"].upper()
    got = mined(
        write_jsonl(tmp_path / "pairs.jsonl", rows),
        f"--base_model={tiny_model}",
        "--relative_margin=0",
        "--num_negatives=60",
    )
    assert [row["id"] for row in got] == [row["id"] for row in rows]
    found = {0: rows[30]["answer"], 30: rows[0]["answer"]}
    for index, row in enumerate(got):
        own = {other["answer"] for other in rows if other["file_name"] == row["file_name"]}
        own |= {found[index]} if index in found else set()
        negatives = row["negatives"]
        assert isinstance(negatives, list)
        assert len(set(negatives)) == len(negatives)
        assert own.isdisjoint(negatives)
    assert sum(len(list(row["negatives"])) > 0 for row in got) > 50  # type: ignore[call-overload]


def test_rows_stay_as_they_were(tmp_path: Path, tiny_model: Path) -> None:
    """Fields of one's own, too; negatives of one's own come first, and none stands twice."""
    flags = (f"--base_model={tiny_model}", "--relative_margin=0")
    pairs = tmp_path / "pairs.jsonl"
    rows = [
        {"question": row["question"], "answer": row["answer"], "note": "\ud83d", "page": 0}
        for row in sample_rows()[:20]
    ]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))  # half a surrogate pair
    first = mined(pairs, *flags)
    negatives = [row["negatives"] for row in first]
    assert first == [row | {"negatives": some} for row, some in zip(rows, negatives, strict=True)]
    number = next(number for number, some in enumerate(negatives) if len(list(some)) == 3)  # type: ignore[call-overload]
    known = list(negatives[number])  # type: ignore[call-overload]
    own = ["written by hand", known[1].upper()]
    rows[number] = rows[number] | {"negatives": own}
    (tmp_path / "mined.jsonl").unlink()
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    again = mined(pairs, *flags)
    assert again[number].pop("negatives") == [*own, known[0], known[2]]
    assert [row.get("negatives", known) for row in again] == negatives


def test_goes_on_where_it_was_stopped(
    tmp_path: Path, tiny_model: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is embedded is not embedded again; another model starts anew."""
    pairs = write_jsonl(tmp_path / "pairs.jsonl", sample_rows()[:40])
    flags = [f"--base_model={tiny_model}", "--eval_batch_size=8", "--relative_margin=0"]
    whole = mined(pairs, *flags)
    (tmp_path / "mined.jsonl").unlink()

    encoder = Encoder(str(tiny_model))
    data = EmbeddingDataModule(str(pairs))
    data.load(encoder, False, "predict")
    target, trainer = tmp_path / "mined.jsonl", one_device_trainer("auto", "32-true")
    begun = EmbeddingFile(target, data.tokens, data.predicted_texts, encoder, trainer)

    def put_until_stopped(texts: Ints, embeddings: NDArray[np.float32]) -> None:
        if begun.done.sum() == 24:
            raise KeyboardInterrupt
        EmbeddingFile.put(begun, texts, embeddings)

    monkeypatch.setattr(begun, "put", put_until_stopped)
    with pytest.raises(KeyboardInterrupt):
        begun.fill(8, "")
    assert begun.done.sum() == 24
    capsys.readouterr()
    assert mined(pairs, *flags) == whole
    assert "24 texts are already embedded" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--num_negatives=0", "num_negatives: is 0, must be at least 1"),
        ("--relative_margin=2", "relative_margin: is 2.0, must lie from 0 to 1"),
        ("--input_jsonl=nowhere.jsonl", "nowhere.jsonl: no such file"),
    ],
)
def test_bad_settings(
    pairs: Path, tiny_model: Path, flag: str, message: str, capsys: Capture
) -> None:
    with pytest.raises(SystemExit) as error:
        mined(pairs, f"--base_model={tiny_model}", flag)
    assert error.value.code == 2
    assert message in capsys.readouterr().err


def test_a_file_is_not_overwritten(pairs: Path, tiny_model: Path, capsys: Capture) -> None:
    mined(pairs, f"--base_model={tiny_model}")
    with pytest.raises(SystemExit):
        mined(pairs, f"--base_model={tiny_model}")
    assert "exists already; give another --output_jsonl or --overwrite" in capsys.readouterr().err
    mined(pairs, f"--base_model={tiny_model}", "--overwrite")
