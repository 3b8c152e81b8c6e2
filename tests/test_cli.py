from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import yaml
from runs import FinishedRun
from sentence_transformers import SentenceTransformer
from tiny import sample_rows, write_jsonl

from embedft.cli.arguments import expand_arguments, loss_class
from embedft.cli.flags import FLAT_CONFIG_KEYS
from embedft.cli.main import main
from embedft.errors import InputError

Capture = pytest.CaptureFixture[str]


def fails(args: list[str], capsys: Capture) -> str:
    """The message of a command line that is refused."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as error:
        main(args)
    assert error.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("embedft: error: ")
    return message.removeprefix("embedft: error: ").rstrip("\n")


def printed_config(args: list[str], capsys: Capture) -> dict[str, Any]:
    with pytest.raises(SystemExit) as error:
        main([*args, "--print_config"])
    assert error.value.code == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert isinstance(config, dict)
    return config


def test_short_flags_are_the_dotted_ones(capsys: Capture) -> None:
    config = printed_config(
        [
            "fit",
            "--input_jsonl",
            "a.jsonl",
            "--output_dir=o",
            "--base_model",
            "m",
            "--epochs",
            "7",
            "--batch_size=9",
            "--eval_batch_size=10",
            "--max-seq-length=99",
            "--learning_rate=1e-4",
            "--warmup_steps=12",
            "--train_split=0.7",
            "--loss_function=OnlineContrastive",
            "--seed=5",
        ],
        capsys,
    )
    model, data, trainer = config["model"], config["data"], config["trainer"]
    assert (data["input_jsonl"], config["output_dir"], model["base_model"]) == ("a.jsonl", "o", "m")
    assert (trainer["max_epochs"], data["batch_size"], data["eval_batch_size"]) == (7, 9, 10)
    assert (model["max_seq_length"], model["learning_rate"], model["warmup_steps"]) == (
        99,
        1e-4,
        12,
    )
    assert (data["train_split"], config["seed_everything"]) == (0.7, 5)
    assert model["loss"]["class_path"] == "embedft.OnlineContrastiveLoss"


def test_flags_win_over_the_config_file(capsys: Capture) -> None:
    args = ["fit", "--config", "configs/minilm.yaml", "--input_jsonl=a", "--batch_size=3"]
    config = printed_config(args, capsys)
    assert (config["data"]["batch_size"], config["data"]["eval_batch_size"]) == (3, 64)


def test_defaults_are_the_guides(capsys: Capture) -> None:
    config = printed_config(["fit", "--input_jsonl=a"], capsys)
    assert config["trainer"]["max_epochs"] == 3
    assert config["trainer"]["precision"] == "auto"
    assert config["data"]["batch_size"] == 16
    assert config["model"]["learning_rate"] == 2e-5
    assert config["model"]["warmup_steps"] == "auto"
    assert config["model"]["loss"]["class_path"] == "embedft.MultipleNegativesRankingLoss"


FLAT = {
    "input_jsonl": "a.jsonl",
    "output_dir": "o",
    "base_model": "m",
    "max_seq_length": 128,
    "num_epochs": 2,
    "train_batch_size": 4,
    "eval_batch_size": 5,
    "learning_rate": 3e-5,
    "warmup_steps": 100,
    "train_split": 0.85,
    "loss_function": "MultipleNegativesRankingLoss",
    "evaluation_steps": 500,
}


def test_flat_config_of_the_older_tool(tmp_path: Path, capsys: Capture) -> None:
    assert set(FLAT) == set(FLAT_CONFIG_KEYS)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(FLAT))
    config = printed_config(["fit", "--config", str(path), "--epochs=9"], capsys)
    model, data, trainer = config["model"], config["data"], config["trainer"]
    assert (data["input_jsonl"], config["output_dir"], model["base_model"]) == ("a.jsonl", "o", "m")
    assert (trainer["max_epochs"], data["batch_size"], data["eval_batch_size"]) == (9, 4, 5)
    assert (model["max_seq_length"], model["learning_rate"], model["warmup_steps"]) == (
        128,
        3e-5,
        100,
    )
    assert data["train_split"] == 0.85
    assert (trainer["val_check_interval"], trainer["check_val_every_n_epoch"]) == (500, None)
    args = ["fit", "--config", str(path), "--evaluation_steps=0"]
    trainer = printed_config(args, capsys)["trainer"]
    assert (trainer["val_check_interval"], trainer["check_val_every_n_epoch"]) == (1.0, 1)


def test_unknown_key_of_a_flat_config(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"input_jsonl": "a", "train_batchsize": 3}))
    message = fails(["fit", "--config", str(path)], capsys)
    assert message == f"{path}: train_batchsize: unknown key; did you mean train_batch_size?"


def test_flat_config_trains(
    fit_flags: list[str], pairs: Path, tiny_model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "config.json"
    path.write_text(
        json.dumps(
            FLAT
            | {
                "input_jsonl": str(pairs),
                "base_model": str(tiny_model),
                "output_dir": str(tmp_path / "o"),
                "num_epochs": 1,
                "max_seq_length": 32,
                "evaluation_steps": 0,
            }
        )
    )
    main(["fit", "--config", str(path), "--trainer.enable_progress_bar=false", "--accelerator=cpu"])
    assert (tmp_path / "o" / "best_model").is_dir()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["fit"], "--input_jsonl: missing; for example: python -m embedft fit --input_jsonl "),
        (
            ["fit", "--input_json=a"],
            "unrecognized arguments: --input_json=a; did you mean --input_jsonl?",
        ),
        (
            ["fit", "--input_jsonl=a", "--epochs=x"],
            "trainer.max_epochs (--epochs): is x, expected a whole number or auto",
        ),
        (
            ["fit", "--input_jsonl=a", "--learning_rate=x"],
            "model.learning_rate (--learning_rate): is x, expected a number",
        ),
        (["fit", "--input_jsonl"], "--input_jsonl: needs a value"),
        (["fit", "--config=nowhere.yaml"], "--config: "),
        (
            ["fit", "--input_jsonl=a", "--loss_function=contrastiv"],
            "loss_function: there is no contrastiv; did you mean ContrastiveLoss?",
        ),
        (
            ["nothing"],
            "nothing: no such subcommand; there are check, fit, validate, test, predict, ",
        ),
        (["export"], "give either --ckpt_path FILE, or --model FOLDER"),
        (["mine"], "--input_jsonl, --output_jsonl: missing; for example: python "),
        (
            ["test", "--input_jsonl=a", "--ckpt_path=best", "--output_dir=nowhere"],
            "nowhere/checkpoints/best.ckpt: no such checkpoint",
        ),
    ],
)
def test_wrong_command_lines(args: list[str], message: str, capsys: Capture) -> None:
    said = fails(args, capsys)
    assert said.startswith(message)
    assert "\n" not in said


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--model.loss.scale=-1", "scale: is -1.0, must be above 0"),
        ("--batch_size=0", "batch_size: is 0, must be at least 1"),
        ("--learning_rate=0", "learning_rate: is 0.0, must be above 0"),
        ("--train_split=1.5", "train_split: is 1.5, must lie between 0 and 1"),
        ("--max_seq_length=4096", "max_seq_length: is 4096, but"),
        ("--accelerator=gpu", "No supported gpu backend found; use --accelerator auto"),
        ("--precision=17", "Precision 17 is invalid"),
        (
            "--trainer.fast_dev_run=true",
            "trainer.fast_dev_run: would skip texts that must be evaluated",
        ),
        ("--trainer.limit_val_batches=0", "trainer.limit_val_batches: would skip texts"),
        ("--trainer.reload_dataloaders_every_n_epochs=0", "each epoch has new batches"),
    ],
)
def test_wrong_settings(
    fit_flags: list[str], flag: str, message: str, tmp_path: Path, capsys: Capture
) -> None:
    import torch

    if flag == "--accelerator=gpu" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    said = fails(["fit", f"--output_dir={tmp_path}/out", *fit_flags, flag], capsys)
    assert said.startswith(message)
    assert "\n" not in said


def test_a_used_folder_is_refused_until_told(
    fit: Callable[..., Path], fit_flags: list[str], run_copy: Path, capsys: Capture
) -> None:
    out = run_copy
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    said = fails(["fit", f"--output_dir={out}", *fit_flags], capsys)
    assert "holds another run" in said
    assert "--ckpt_path last" in said
    assert "--overwrite" in said
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    (out / "notes.txt").write_text("mine")
    fit("--epochs=1", "--overwrite")
    assert (out / "notes.txt").read_text() == "mine"
    assert json.loads((out / "training_progress.json").read_text())["training_completed"] is True


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--input_jsonl=none.jsonl", "none.jsonl: no such file"),
        ("--validation_jsonl=none.jsonl", "none.jsonl: no such file"),
        ("--epochs=-1", "epochs: the run has no end"),
        ("--batch_size=0", "batch_size: is 0"),
        ("--learning_rate=-1", "learning_rate: is -1"),
        ("--train_split=90", "train_split: is 90.0, must lie between 0 and 1"),
        ("--train_split=0", "train_split: is 0.0, must lie between 0 and 1"),
        ("--save_steps=0", "save_steps: is 0"),
        (
            "--seed=1",
            "{out}: holds another run (metrics.json); resume it with --ckpt_path last, ",
        ),
    ],
)
def test_a_wrong_flag_is_said_before_a_used_folder(
    fit_flags: list[str], flag: str, message: str, tmp_path: Path, capsys: Capture
) -> None:
    """Who mistypes a flag is not told to delete a run for it."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "metrics.json").touch()
    said = fails(["fit", f"--output_dir={out}", *fit_flags, flag], capsys)
    assert said.startswith(message.format(out=out))
    assert "--overwrite true" not in said


@pytest.mark.parametrize("command", ["fit", "test"])
def test_a_share_out_of_range_is_refused_before_reading(
    command: str, fit_flags: list[str], pairs: Path, tmp_path: Path, capsys: Capture
) -> None:
    pairs.write_text("not read")
    said = fails([command, f"--output_dir={tmp_path}/out", *fit_flags, "--train_split=90"], capsys)
    assert said == "train_split: is 90.0, must lie between 0 and 1 (usual: 0.9)"


def test_overwrite_deletes_nothing_while_the_input_is_bad(
    run_copy: Path, fit_flags: list[str], pairs: Path, capsys: Capture
) -> None:
    out = run_copy
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    pairs.write_text("{")
    fails(["fit", f"--output_dir={out}", *fit_flags, "--overwrite"], capsys)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def said_by(args: list[str], capsys: Capture) -> list[str]:
    capsys.readouterr()
    main(args)
    return capsys.readouterr().out.splitlines()


def shows(lines: list[str], *values: float) -> bool:
    """Whether the one table that was printed has this nDCG@10, or that of the base model first."""
    (shown,) = [line for line in lines if line.startswith("| ndcg@10")]
    if len(values) == 2:
        assert f"{values[1] - values[0]:+.4f}" == shown.split()[7]
    return shown.split()[3 : 2 + 2 * len(values) : 2] == [f"{value:.4f}" for value in values]


@pytest.mark.parametrize("command", ["test", "validate"])
def test_measuring_says_first_which_weights(
    run_copy: Path, fit_flags: list[str], tiny_model: Path, command: str, capsys: Capture
) -> None:
    out = run_copy
    metrics = json.loads((out / "metrics.json").read_text())
    base_args = [command, f"--output_dir={out}", *fit_flags]
    before = sorted(out.rglob("*"))

    first, *rest = said_by(base_args, capsys)
    assert first == f"{command}: the weights of base model {tiny_model}, no checkpoint"
    assert shows(rest, metrics["base"]["ndcg@10"])

    for name in ("best", "last"):
        first, *rest = said_by([*base_args, f"--ckpt_path={name}"], capsys)
        step = metrics[name]["step"]
        path = out / "checkpoints" / f"{name}.ckpt"
        assert first.startswith(f"{command}: the weights of checkpoint {path} (step {step}, epoch ")
        values = [metrics[each]["ndcg@10"] for each in ("base", name)]
        assert shows(rest, *(values if command == "test" else values[1:]))

    exported = out / "final_model"  # best_model is the base model where nothing found more
    args = [
        f"--base_model={exported}" if flag.startswith("--base_model") else flag
        for flag in base_args
    ]
    first, *rest = said_by(args, capsys)
    assert first == f"{command}: the weights of base model {exported}, no checkpoint"
    assert shows(rest, metrics["last"]["ndcg@10"])
    page = [out / "test_report.html"] if command == "test" else []
    assert sorted(out.rglob("*")) == sorted([*before, *page])


def test_predict(fit_flags: list[str], tiny_model: Path, pairs: Path, tmp_path: Path) -> None:
    rows = [*sample_rows()[:20], sample_rows()[0] | {"id": "again"}]
    write_jsonl(pairs, rows)
    main(["predict", f"--output_dir={tmp_path}/emb", *fit_flags])
    ids = [json.loads(line) for line in (tmp_path / "emb" / "ids.jsonl").read_text().splitlines()]
    assert [(entry["id"], entry["line"]) for entry in ids] == [
        (str(row["id"]), i) for i, row in enumerate(rows, 1)
    ]
    model = SentenceTransformer(str(tiny_model), device="cpu")
    for name in ("question", "answer"):
        table = np.load(tmp_path / "emb" / f"{name}_embeddings.npy")
        assert (table.shape, table.dtype) == ((21, 32), np.float32)
        expected = model.encode([row[name] for row in rows])
        np.testing.assert_allclose(table, expected, rtol=1e-5, atol=1e-6)


def test_predict_with_a_checkpoint(
    finished_run: FinishedRun, fit_flags: list[str], tmp_path: Path
) -> None:
    out = finished_run.folder
    emb = tmp_path / "emb"
    main(["predict", f"--output_dir={emb}", *fit_flags, f"--ckpt_path={out}/checkpoints/best.ckpt"])
    table = np.load(emb / "question_embeddings.npy")
    # best_model would be the base model where those weights found less than it
    model = SentenceTransformer(str(out / "final_model"), device="cpu")
    expected = model.encode([row["question"] for row in sample_rows()[:60]])
    np.testing.assert_allclose(table, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("command", ["fit", "test"])
def test_checkpoint_of_another_model(
    run_copy: Path, fit_flags: list[str], command: str, tmp_path: Path, capsys: Capture
) -> None:
    out = run_copy
    other = tiny.build(tmp_path / "other", "distilbert")
    said = fails(
        [command, f"--output_dir={out}", *fit_flags, f"--base_model={other}", "--ckpt_path=last"],
        capsys,
    )
    assert "its weights do not fit base model" in said


def test_names_of_losses() -> None:
    for name in ("mnrl", "MultipleNegativesRankingLoss", "multiple_negatives_ranking"):
        assert loss_class(name) == "MultipleNegativesRankingLoss"
    assert loss_class("online-contrastive") == "OnlineContrastiveLoss"
    assert loss_class("my.own.Loss") == "my.own.Loss"
    with pytest.raises(InputError, match="did you mean CosineSimilarityLoss"):
        loss_class("CosinSimilarityLoss")


def test_arguments_pass_unless_they_are_short() -> None:
    args = [
        "fit",
        "--trainer.max_epochs",
        "3",
        "--output_dir",
        "--overwrite",
        "--epochs=4",
        "-c",
        "configs/minilm.yaml",
    ]
    assert expand_arguments(args) == [
        "fit",
        "-c",  # flags win over it
        "configs/minilm.yaml",
        "--trainer.max_epochs",
        "3",
        "--output_dir",
        "--overwrite=true",
        "--trainer.max_epochs=4",
    ]


def test_a_checkpoint_is_measured_on_other_data(
    fit: Callable[..., Path], fit_flags: list[str], pairs: Path, capsys: Capture
) -> None:
    out = fit("--trainer.max_steps=5")  # it stops within an epoch, whose batches need its data
    write_jsonl(pairs, sample_rows()[60:100])
    said = said_by(["test", f"--output_dir={out}", *fit_flags, "--ckpt_path=last"], capsys)
    assert any("40 rows read" in line for line in said)


def test_the_saved_config_measures_and_resumes(
    fit: Callable[..., Path], fit_flags: list[str], capsys: Capture
) -> None:
    out = fit("--trainer.max_steps=5")
    config = f"--config={out}/config.yaml"
    first, *_ = said_by(["test", config, "--ckpt_path=best"], capsys)
    assert first.startswith(f"test: the weights of checkpoint {out}/checkpoints/best.ckpt (step 5")
    said_by(["fit", config, "--ckpt_path=last", "--trainer.max_steps=9"], capsys)
    assert json.loads((out / "metrics.json").read_text())["last"]["step"] == 9
