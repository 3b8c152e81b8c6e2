"""What a fit leaves behind, and that every loss and setting trains."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
import yaml
from runs import METRICS, FinishedRun
from sentence_transformers import SentenceTransformer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import MULTILINGUAL, read_jsonl, sample_rows, write_jsonl

from embedft.cli.main import main

Capture = pytest.CaptureFixture[str]


def train_losses(folder: Path) -> list[float]:
    lines = read_jsonl(folder / "training_metrics.jsonl")
    return [line["train/loss"] for line in lines if "train/loss" in line]


@pytest.mark.parametrize(
    ("flags", "questions", "known"),
    [([], 10, 0), (["--train_split=0"], 60, 50), (["--data.split_seed=7"], None, None)],
)
def test_no_verdict_if_questions_were_trained_on(
    run_copy: Path,
    fit_flags: list[str],
    capsys: Capture,
    flags: list[str],
    questions: int | None,
    known: int | None,
) -> None:
    """A test of a checkpoint gives a verdict only if no question was trained on, whatever the split."""
    out = run_copy
    main(["test", *fit_flags, f"--output_dir={out}", "--ckpt_path=last", *flags])
    said = capsys.readouterr().out
    found = re.search(r"warning: ([0-9]+) of the ([0-9]+) questions were trained on", said)
    if known == 0:
        assert found is None
        assert "No verdict" not in said
        return
    assert found is not None
    assert 0 < int(found[1]) <= int(found[2])
    if known is not None:
        assert (int(found[1]), int(found[2])) == (known, questions)
    assert f"No verdict: {found[1]} of the questions were used for training" in said
    assert "is better" not in said
    assert "No verdict" in (out / "test_report.html").read_text()


def test_metrics_by_question_and_file(finished_run: FinishedRun) -> None:
    """They are of the held-out rows; their means are the metrics of the run."""
    out = finished_run.folder
    metrics = json.loads((out / "metrics.json").read_text())
    questions = read_jsonl(out / "metrics_by_question.jsonl")
    given = {row["id"]: row for row in read_jsonl(finished_run.pairs)}
    assert len(questions) == 10
    for line in questions:
        row = given[line["id"]]
        assert (line["question"], line["file_name"]) == (row["question"], row["file_name"])
    files = metrics["files"]
    assert files.keys() == {line["file_name"] for line in questions}
    assert sum(file["questions"] for file in files.values()) == 10
    for name in ("base", "best", "last"):
        expected = pytest.approx(metrics[name]["ndcg@10"], abs=1e-6)
        assert sum(line["ndcg@10"][name] for line in questions) / 10 == expected
        weighted = (file["questions"] * file["ndcg@10"][name] for file in files.values())
        assert sum(weighted) / 10 == expected


def test_files_of_a_run(finished_run: FinishedRun, tiny_model: Path) -> None:
    out, said = finished_run.folder, finished_run.printed
    for line in (
        "60 rows read",
        "split: 50 rows to train on",
        "schedule: 14 steps",
        "best_model - base",
    ):
        assert line in said

    progress = json.loads((out / "training_progress.json").read_text())
    assert progress["training_completed"] is True
    assert progress["base_model"] == str(tiny_model)
    assert (progress["num_epochs"], progress["train_examples"], progress["eval_examples"]) == (
        2,
        50,
        10,
    )
    assert progress["final_model_path"] == str(out / "final_model")
    assert progress["duration_seconds"] > 0
    assert progress["completed_at"]

    lines = read_jsonl(out / "training_metrics.jsonl")
    assert all({"timestamp", "epoch", "step", "loss"} <= line.keys() for line in lines)
    training = [line for line in lines if "train/loss" in line]
    assert [line["step"] for line in training] == list(range(1, 15))
    for name in (
        "loss",
        "in_batch_accuracy",
        "learning_rate",
        "grad_norm",
        "pairs_per_second",
        "tokens_per_second",
    ):
        assert all(f"train/{name}" in line for line in training[1:]), name
    evaluations = [line for line in lines if "val/ndcg@10" in line]
    assert [line["step"] for line in evaluations] == [0, 7, 14]

    metrics = json.loads((out / "metrics.json").read_text())
    assert {metrics[name]["step"] for name in ("base", "last")} == {0, 14}
    assert metrics["best"]["ndcg@10"] >= metrics["last"]["ndcg@10"]
    for name in ("best", "last"):
        gain = metrics[name]["gain"]
        assert gain["low"] <= gain["mean"] <= gain["high"]
        difference = metrics[name]["ndcg@10"] - metrics["base"]["ndcg@10"]
        assert gain["mean"] == pytest.approx(difference, abs=1e-6)
    assert metrics["data"]["rows_read"] == 60

    log = (out / "logs" / "embedding_finetuning.log").read_text()
    assert "60 rows read" in log
    assert "best_model - base" in log
    events = EventAccumulator(str(out / "logs")).Reload()
    tags = set(events.Tags()["scalars"])
    assert tags >= {f"val/{name}" for name in (*METRICS, "loss", "cosine_pair_loss")}
    assert tags >= {
        f"train/{name}"
        for name in (
            "loss",
            "learning_rate",
            "grad_norm",
            "in_batch_accuracy",
            "pairs_per_second",
            "tokens_per_second",
        )
    }
    assert len(events.Scalars("val/ndcg@10")) == 3  # Lightning counts its steps from 0 there

    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["data"]["batch_size"] == 8
    for name in ("final_model", "best_model"):
        assert SentenceTransformer(str(out / name), device="cpu").encode("x").shape == (32,)
        assert "## Retrieval quality" in (out / name / "README.md").read_text()
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == [
        "best.ckpt",
        "last.ckpt",
        "step-7.ckpt",
    ]
    assert not list(out.rglob("*writing*"))


def test_config_of_a_run_deletes_nothing(
    fit: Callable[..., Path], run_copy: Path, capsys: Capture
) -> None:
    """The saved config neither overwrites nor resumes: each run has to be told."""
    out = fit("--epochs=1", "--overwrite")
    assert out == run_copy
    fit("--epochs=2", "--ckpt_path=last", f"--report={out}.html")
    saved = yaml.safe_load((out / "config.yaml").read_text())
    assert (saved["overwrite"], saved["ckpt_path"], saved["report"]) == (False, None, None)
    with pytest.raises(SystemExit):
        main(["fit", f"--config={out}/config.yaml"])
    assert "holds another run" in capsys.readouterr().err


def test_a_refused_resume_changes_nothing(fit: Callable[..., Path], capsys: Capture) -> None:
    out = fit("--trainer.max_steps=3")
    before = {name: (out / name).read_bytes() for name in ("config.yaml", "training_progress.json")}
    for flag, message in (
        ("--model.freeze_layers=0", "freeze_layers was None and is now 0"),
        ("--batch_size=4", "cannot resume inside an epoch: batch_size was 8, is 4"),
    ):
        with pytest.raises(SystemExit) as stop:
            fit("--ckpt_path=last", flag)
        assert stop.value.code == 2
        assert message in capsys.readouterr().err
    assert before == {name: (out / name).read_bytes() for name in before}


def test_encoder_settings_that_differ_from_the_checkpoint(
    fit: Callable[..., Path], capsys: Capture
) -> None:
    """A test with other encoder settings than the training's prints a warning."""
    out = fit("--epochs=1", "--max_seq_length=16")
    flags = [f"--input_jsonl={out.parent}/pairs.jsonl", f"--output_dir={out}", "--ckpt_path=best"]
    flags += ["--train_split=0.8", "--accelerator=cpu", "--precision=32-true"]
    flags += [
        "--base_model",
        str(json.loads((out / "training_progress.json").read_text())["base_model"]),
    ]
    capsys.readouterr()
    same = ["--max_seq_length=16", "--model.pooling=mean"]  # which the folder says anyway
    for more, warns in (same, False), ([], True):
        main(["test", *flags, *more, "--overwrite"])
        said = (
            "settings differ from the training of the checkpoint: max_seq_length (was 16, is 48); "
        )
        assert (said in capsys.readouterr().out) is warns


def test_nothing_to_train_on(fit: Callable[..., Path], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as stop:
        fit("--train_split=0")
    assert stop.value.code == 2
    assert "train_split: is 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags",
    [
        [
            "--model.loss=MultipleNegativesRankingLoss",
            "--model.loss.symmetric=true",
            "--model.loss.scale=10",
        ],
        [
            "--loss_function=contrastive",
            "--model.loss.distance_metric=manhattan",
            "--data.negatives_per_pair=3",
        ],
        ["--loss_function=CosineSimilarityLoss"],
        ["--loss_function=online_contrastive", "--model.loss.margin=0.7"],
    ],
    ids=["ranking", "contrastive", "cosine", "online"],
)
@pytest.mark.parametrize("labels", [False, True])
def test_every_loss_trains(
    fit: Callable[..., Path], pairs: Path, flags: list[str], labels: bool
) -> None:
    if labels:
        rows = [row | {"label": i % 3 / 2} for i, row in enumerate(sample_rows()[:60])]
        write_jsonl(pairs, rows)
    losses = train_losses(fit("--epochs=1", *flags))
    assert len(losses) >= 4
    assert all(0 <= loss < 1e4 for loss in losses)
    assert any(loss > 0 for loss in losses)


@pytest.mark.parametrize("positive", ["context", "both"])
def test_contexts_can_be_positives(fit: Callable[..., Path], pairs: Path, positive: str) -> None:
    rows = [row | {"context": f"{row['answer']} And more."} for row in sample_rows()[:60]]
    write_jsonl(pairs, rows)
    out = fit("--epochs=1", f"--data.positive={positive}")
    steps = json.loads((out / "metrics.json").read_text())["last"]["step"]
    assert steps == (13 if positive == "both" else 7)


def test_separate_validation_file(
    fit: Callable[..., Path], pairs: Path, tmp_path: Path, capsys: Capture
) -> None:
    own = write_jsonl(tmp_path / "own.jsonl", sample_rows()[55:70])
    metrics = json.loads(
        (fit("--epochs=1", f"--validation_jsonl={own}") / "metrics.json").read_text()
    )
    assert (metrics["data"]["train_examples"], metrics["data"]["eval_examples"]) == (55, 15)
    said = capsys.readouterr().out
    assert "validation file: 15 rows. Training rows: 55; left out: 5, because" in said


def test_multilingual_rows(fit: Callable[..., Path], pairs: Path) -> None:
    write_jsonl(pairs, sample_rows(MULTILINGUAL))
    assert json.loads((fit("--epochs=1") / "metrics.json").read_text())["data"]["rows_read"] == 24


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_families(fit: Callable[..., Path], tmp_path: Path, family: str) -> None:
    folder = tiny.build(tmp_path / "base", family)
    out = fit("--trainer.max_steps=3", f"--base_model={folder}")
    assert SentenceTransformer(str(out / "best_model"), device="cpu").encode("x").shape == (32,)


def test_mixed_precision(fit: Callable[..., Path], finished_run: FinishedRun) -> None:
    """Its losses are near those of float32, but not equal."""
    exact = train_losses(finished_run.folder)
    rounded = train_losses(fit("--precision=bf16-mixed"))
    assert len(exact) == 14
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=0.1)


def test_long_warm_up_is_kept_with_a_warning(fit: Callable[..., Path], capsys: Capture) -> None:
    out = fit("--epochs=1", "--warmup_steps=500")
    said = capsys.readouterr().out
    assert "schedule: 7 steps, 500 of them warm-up" in said
    assert "warmup_steps 500 is longer than half of the 7 steps of this run" in said
    rates = [
        line["train/learning_rate"]
        for line in read_jsonl(out / "training_metrics.jsonl")
        if "train/loss" in line
    ]
    assert rates == pytest.approx([1e-3 * step / 500 for step in range(7)])


def test_same_seed_same_model(fit: Callable[..., Path], tmp_path: Path) -> None:
    weights = [
        (
            fit("--epochs=1", f"--seed={seed}", output_dir=tmp_path / name)
            / "final_model"
            / "model.safetensors"
        ).read_bytes()
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert weights[0] == weights[1] != weights[2]


@pytest.mark.slow
def test_without_sentence_transformers(fit_flags: list[str], tmp_path: Path) -> None:
    """Fit, test, predict and export work if sentence-transformers can't be imported."""
    code = (
        "import sys\n"
        "for name in ('sentence_transformers', 'datasets', 'accelerate'):\n"
        "    sys.modules[name] = None\n"
        "from embedft.cli.main import main\n"
        f"out, flags = {str(tmp_path / 'out')!r}, {fit_flags!r}\n"
        "main(['fit', '--output_dir', out, *flags])\n"
        "main(['test', '--output_dir', out, *flags, '--ckpt_path', 'best'])\n"
        "main(['predict', '--output_dir', out + '/emb', *flags])\n"
        "main(['export', '--ckpt_path', out + '/checkpoints/last.ckpt', '--output_dir', out + '/again'])\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert (tmp_path / "out" / "again" / "model.safetensors").is_file()
    assert (tmp_path / "out" / "emb" / "ids.jsonl").is_file()
