"""Training on hard negatives of the file equals a plain reference over texts, without leaks."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from oracle import read_records
from recorder import recorded
from tiny import sample_rows, with_negatives, write_jsonl
from torch import Tensor

from embedft.cli.main import main
from embedft.data.datamodule import EmbeddingDataModule
from embedft.losses import ContrastiveLoss
from embedft.table.record import normalize_text
from embedft.training.module import EmbeddingModule

Row = dict[str, Any]


def untidy_rows() -> list[Row]:
    """Rows with few or no negatives, with relevant or held-out negatives, and with repeated ones.

    One question also has the answers of other rows, which may be in the same batch.
    """
    rows = with_negatives(sample_rows()[:60])
    for row in rows:
        row["file_name"] = ""  # small groups: related rows meet in more batches
    rows[3]["negatives"] += [rows[3]["answer"].upper() + "  "]
    rows[7]["question"] = rows[30]["question"]
    rows[7]["negatives"] = [rows[30]["answer"], rows[1]["answer"], rows[1]["answer"].lower()]
    rows[8]["negatives"] = [rows[7]["answer"], rows[30]["answer"]]  # relevant to another question
    for row in rows[9:40]:
        row["negatives"] = [rows[30]["answer"], *row["negatives"], "nowhere else"]
    for row, other in zip(rows[40:48], rows[13:21], strict=True):
        row["question"], row["answer"] = rows[12]["question"], other["answer"]
    rows[10]["negatives"] = None
    del rows[11]["negatives"]
    return rows


def epoch_losses(
    pairs: Path, tiny_model: Path, folder: Path, count: int, reference: Callable[..., Tensor]
) -> None:
    """Compares each logged loss of three epochs, at a rate of nearly 0, with the reference."""
    lines = [
        json.loads(line)["train/loss"]
        for line in (folder / "training_metrics.jsonl").read_text().splitlines()
        if "train/loss" in line
    ]
    module = EmbeddingModule(str(tiny_model))
    data = EmbeddingDataModule(str(pairs), batch_size=8, train_split=0.8, hard_negatives=count)
    data.load(module.encoder, module.loss.needs_labels)
    encoder = module.encoder.double().eval()
    tokenizer = encoder.tokenizer
    records, _ = read_records(pairs)
    held_out = {
        normalize_text(records[row].answer) for row in data.fit_data.validation_pairs.source_row
    }
    relevant: dict[str, set[str]] = {}
    for record in records:
        relevant.setdefault(normalize_text(record.question), set()).add(
            normalize_text(record.answer)
        )

    written = [text for r in records for text in (r.question, r.answer, *r.negatives)]
    as_written = {normalize_text(text): text for text in reversed(written)}

    def embed(texts: list[str]) -> Tensor:
        ids = [
            tokenizer(as_written[text], truncation=True, max_length=48)["input_ids"]
            for text in texts
        ]
        flat = torch.tensor([token for own in ids for token in own])
        with torch.no_grad():
            embeddings: Tensor = encoder(flat, torch.tensor(list(map(len, ids))))
        return embeddings

    def usable(row: int) -> list[str]:
        seen: list[str] = []
        for text in map(normalize_text, records[row].negatives):
            own = relevant[normalize_text(records[row].question)]
            if text not in own and text not in held_out and text not in seen:
                seen.append(text)
        return seen

    left_out = met = 0
    for (epoch, _, rows), logged in zip(recorded(folder.with_name("rows")), lines, strict=True):
        batch = [int(data.pairs.source_row[row]) for row in rows]
        questions = [normalize_text(records[row].question) for row in batch]
        answers = [normalize_text(records[row].answer) for row in batch]
        assert not held_out & set(answers)
        negatives = []
        for row in batch:
            own = usable(row)
            taken = [own[(epoch * count + k) % len(own)] for k in range(min(count, len(own)))]
            negatives.append(taken)
            left_out += len(records[row].negatives) - len(own)
        met += sum(len(relevant[q] & set(answers)) - 1 for q in questions)
        expected = reference(embed, questions, answers, negatives, relevant)
        assert logged == pytest.approx(float(expected), rel=1e-9)
    assert left_out > 0
    assert met > 0


def ranking(
    embed: Callable[[list[str]], Tensor],
    questions: list[str],
    answers: list[str],
    negatives: list[list[str]],
    relevant: dict[str, set[str]],
) -> Tensor:
    further = {text for own in negatives for text in own} - set(answers)
    terms = []
    for question, answer in zip(questions, answers, strict=True):
        wrong = [text for text in [*answers, *sorted(further)] if text not in relevant[question]]
        scores = 20 * embed([answer, *wrong]) @ embed([question])[0]
        terms.append(scores.logsumexp(0) - scores[0])
    return torch.stack(terms).mean()


def contrastive(
    embed: Callable[[list[str]], Tensor],
    questions: list[str],
    answers: list[str],
    negatives: list[list[str]],
    relevant: dict[str, set[str]],
) -> Tensor:
    first = embed(questions + [q for q, own in zip(questions, negatives, strict=True) for _ in own])
    second = embed(answers + [text for own in negatives for text in own])
    labels = torch.arange(len(first)) < len(questions)
    loss: Tensor = ContrastiveLoss()(first, second, labels.double())
    return loss


@pytest.mark.parametrize(
    ("loss", "count"), [("mnrl", 0), ("mnrl", 1), ("mnrl", 9), ("contrastive", 2)]
)
def test_against_a_plain_reference(
    fit: Callable[..., Path],
    pairs: Path,
    tiny_model: Path,
    without_dropout: list[str],
    tmp_path: Path,
    loss: str,
    count: int,
) -> None:
    rows = untidy_rows()
    flags = ["--epochs=3", "--precision=64-true", "--learning_rate=1e-30", "--model.weight_decay=0"]
    if loss == "contrastive":  # labels: no negatives are drawn beside
        rows = [row | {"label": 1} for row in rows]
    else:
        flags.append("--model.loss.symmetric=false")
    write_jsonl(pairs, rows)
    recorder = [
        "--trainer.callbacks+=recorder.Recorder",
        f"--trainer.callbacks.path={tmp_path}/rows",
    ]
    folder = fit(
        *without_dropout,
        f"--loss_function={loss}",
        *flags,
        *recorder,
        f"--data.hard_negatives={count}",
    )
    reference = ranking if loss == "mnrl" else contrastive
    epoch_losses(pairs, tiny_model, folder, count, reference)


def test_batches_have_the_pairs_of_a_run_without_negatives(
    tmp_path: Path, tiny_model: Path
) -> None:
    """The option adds negatives to the batches; their pairs stay. 0 reads no negatives."""
    pairs = write_jsonl(tmp_path / "pairs.jsonl", untidy_rows())
    module = EmbeddingModule(str(tiny_model))
    sets = [EmbeddingDataModule(str(pairs), hard_negatives=count) for count in (0, 1, 3)]
    for data in sets:
        data.load(module.encoder, False)
    assert [data.training.n_hard_negatives for data in sets] == [0, 1, 3]
    for epoch in range(2):
        plain = sets[0].train_batches(epoch)
        for data in sets[1:]:
            batches = data.train_batches(epoch)
            assert np.array_equal(batches.plan.pairs, plain.plan.pairs)
            assert all(len(batches[i].lengths) > len(plain[i].lengths) for i in range(len(plain)))


@pytest.mark.parametrize("pairwise_negatives", [False, True])
def test_a_candidate_is_embedded_once(
    tmp_path: Path, tiny_model: Path, pairwise_negatives: bool
) -> None:
    """Also if several rows name it or it is a positive of the batch; for a pair loss once a row."""
    pairs = write_jsonl(tmp_path / "pairs.jsonl", untidy_rows())
    module = EmbeddingModule(str(tiny_model))
    data = EmbeddingDataModule(str(pairs), hard_negatives=3, negatives_per_pair=1)
    data.load(module.encoder, pairwise_negatives)
    batches = data.train_batches(0)
    twice = 0
    for i in range(len(batches)):
        texts = torch.split(batches[i].input_ids, batches[i].lengths.tolist())
        twice += len(texts) - len({tuple(ids.tolist()) for ids in texts})
    assert (twice > 0) is pairwise_negatives


def test_no_held_out_text_is_trained_on(tmp_path: Path, tiny_model: Path) -> None:
    """With a split and with a separate validation file."""
    rows = [row | {"file_name": ""} for row in sample_rows()[:60]]
    for row in rows:
        row["negatives"] = [other["answer"] for other in rows if other["answer"] != row["answer"]]
    pairs = write_jsonl(tmp_path / "pairs.jsonl", rows)
    own = write_jsonl(tmp_path / "own.jsonl", rows[:10])
    module = EmbeddingModule(str(tiny_model))
    for validation in (None, str(own)):
        data = EmbeddingDataModule(str(pairs), validation, hard_negatives=99)
        data.load(module.encoder, False)
        measured = {
            tuple(data.tokens.pack(np.array([text]))[0].tolist())
            for text in data.fit_data.validation_pairs.positive
        }
        batches = data.train_batches(0)
        trained = set()
        for i in range(len(batches)):
            for ids in torch.split(batches[i].input_ids, batches[i].lengths.tolist()):
                trained.add(tuple(ids.tolist()))
        assert len(trained) > 60
        assert not trained & measured


def test_from_mine_to_fit(
    fit: Callable[..., Path], pairs: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mined = pairs.with_name("mined.jsonl")
    main(
        [
            "mine",
            f"--input_jsonl={pairs}",
            f"--output_jsonl={mined}",
            f"--base_model={tiny_model}",
            "--relative_margin=0",
        ]
    )
    folder = fit(f"--input_jsonl={mined}", "--epochs=1")
    assert "hard negatives: " in capsys.readouterr().out
    assert (folder / "best_model" / "model.safetensors").is_file()


@pytest.mark.parametrize("named", [1, 60])
def test_nothing_is_mined_if_the_file_names_negatives(
    fit: Callable[..., Path], pairs: Path, capsys: pytest.CaptureFixture[str], named: int
) -> None:
    """The log says so, as a warning if most pairs are left without negatives."""
    rows = sample_rows()[:60]
    for row in rows[:named]:
        row["negatives"] = ["nowhere else"]
    write_jsonl(pairs, rows)
    fit("--trainer.max_steps=1", "--data.mine_negatives=true", "--data.split_seed=1")
    said = re.search(
        r"(warning: )?mine_negatives: none are mined, as the file names negatives for ([0-9]+) of "
        "([0-9]+) training pairs",
        capsys.readouterr().out,
    )
    assert said is not None
    assert said.groups() == (
        ("warning: ", "1", said[3]) if named == 1 else (None, said[3], said[3])
    )


def test_unusable_negatives_change_nothing(fit: Callable[..., Path], pairs: Path) -> None:
    plain = fit("--epochs=1")
    write_jsonl(pairs, [row | {"negatives": [row["answer"]]} for row in sample_rows()[:60]])
    same = fit("--epochs=1", output_dir=pairs.with_name("same"))
    losses = [
        [
            json.loads(line).get("train/loss")
            for line in (out / "training_metrics.jsonl").read_text().splitlines()
        ]
        for out in (plain, same)
    ]
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--data.hard_negatives=-1"], "hard_negatives: is -1, must be at least 0"),
        (
            ["--loss_function=my_loss.Plain"],
            "loss Plain: does not support hard negatives; add negatives_BND and mask_BC to its "
            "forward(), or leave hard negatives out with --data.hard_negatives 0",
        ),
    ],
)
def test_refused(
    fit: Callable[..., Path],
    pairs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "my_loss.py").write_text(
        "from embedft.losses import Loss\n"
        "class Plain(Loss):\n"
        "    needs_labels = False\n"
        "    def forward(self, anchor_BD, positive_BD, negatives_BND=None):\n"
        "        return (anchor_BD - positive_BD).pow(2).sum()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    write_jsonl(pairs, untidy_rows())
    with pytest.raises(SystemExit) as error:
        fit(*flags)
    assert error.value.code == 2
    assert message in capsys.readouterr().err
