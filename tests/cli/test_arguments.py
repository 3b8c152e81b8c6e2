"""Short flags, switches, presets and the older tool's config, as the parser gets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import OLDER_CONFIG, Capture, fails, printed, printed_config

from embedft.cli.arguments import expand_arguments, loss_class
from embedft.cli.flags import FLAT_CONFIG_KEYS
from embedft.cli.help_pages import TRAINER_PAGES
from embedft.errors import InputError


def test_a_prompt_that_the_parser_would_lose_is_refused(capsys: Capture) -> None:
    """YAML reads it as a comment."""
    assert "begins with #" in fails(["fit", "--model.query_prompt", "# "], capsys)


def test_short_flags_set_the_dotted_settings(capsys: Capture) -> None:
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


def test_flat_config_of_the_older_tool(tmp_path: Path, capsys: Capture) -> None:
    assert set(OLDER_CONFIG) == set(FLAT_CONFIG_KEYS)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(OLDER_CONFIG))
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


def test_names_of_losses() -> None:
    for name in ("mnrl", "MultipleNegativesRankingLoss", "multiple_negatives_ranking"):
        assert loss_class(name) == "MultipleNegativesRankingLoss"
    assert loss_class("online-contrastive") == "OnlineContrastiveLoss"
    assert loss_class("my.own.Loss") == "my.own.Loss"
    with pytest.raises(InputError, match="did you mean CosineSimilarityLoss"):
        loss_class("CosinSimilarityLoss")


def test_other_arguments_stay_and_configs_come_first() -> None:
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


@pytest.mark.parametrize("name", TRAINER_PAGES)
def test_a_file_needs_no_flag(name: str, capsys: Capture) -> None:
    bare = printed([name, "a.jsonl", "--batch_size", "8", "--print_config"], capsys)
    assert bare == printed(
        [name, "--input_jsonl=a.jsonl", "--batch_size=8", "--print_config"], capsys
    )
