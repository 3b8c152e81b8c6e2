"""Errors of the parser in one line that says what to type."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from command_line import Capture, fails

from embedft.cli.messages import friendly_error, root_cause


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
            "trainer.max_epochs (--epochs): is x, expected a whole number",
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
    ("line", "said"),
    [
        ("tset --input_jsonl a", "tset: no such subcommand; did you mean test?"),
        ("train --input_jsonl a", "train: no such subcommand; did you mean fit?"),
        ("fit --lr 1e-4", "unrecognized arguments: --lr 1e-4; did you mean --learning_rate?"),
        ("fit pairs.jsonl", "unrecognized arguments: pairs.jsonl; give a file of pairs as "),
        ("fit --batchsize=8", "unrecognized arguments: --batchsize=8; did you mean --batch_size?"),
        ("fit --weight_decay 0", "unrecognized arguments: --weight_decay 0; did you mean --model."),
        ("fit --trainer.max_epoch_s 3", "did you mean --trainer.max_epochs?"),
        ("fit --zzz 1", "unrecognized arguments: --zzz 1; python -m embedft fit --help_all lists"),
        ("--batch_size 8", "a subcommand comes first, such as: python -m embedft fit "),
        ("export --ckpt_pth a", "did you mean --ckpt_path?"),
        ("mine --output_jsonl b", "--input_jsonl: missing; for example: python -m embedft mine "),
        ("test", "--input_jsonl: missing; for example: python -m embedft test --input_jsonl "),
        ("fit --data.positive all", "data.positive: is all, expected answer or context or both"),
        ("fit --data.mine_negatives 2", "data.mine_negatives: is 2, expected true or false"),
        ("fit --model.loss.scal 3", "model.loss.scal: there is no such setting; python -m embedft"),
        ("fit --model.loss.additive_margin 0", "no such setting; it was removed in this version"),
        ("fit --model.loss.scale abc", "model.loss.scale: is abc, expected a number"),
        ("fit --warmup_steps high", "(--warmup_steps): is high, expected a whole number or auto"),
        (
            "fit --trainer.callbacks+=EarlyStopping --trainer.callbacks.patience=few",
            "trainer.callbacks.patience: is few, expected a whole number",
        ),
        ("fit --model.loss no.Loss", "model.loss: no.Loss: No module named 'no'"),
        ("mine --num_negatives x", "num_negatives: is x, expected a whole number"),
        ("fit --batch_size größer", "data.batch_size (--batch_size): is größer, expected a whole"),
        ("--print_completion fish", "--print_completion: is fish, must be one of bash, zsh, tcsh"),
    ],
)
def test_errors_say_what_to_type(line: str, said: str, capsys: Capture) -> None:
    if "missing" not in said and not line.startswith("-"):
        line += " --input_jsonl a"
    message = fails(shlex.split(line), capsys)
    assert said in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("model:\n  learning_rat: 1\n", "model.learning_rat: there is no such setting; did you "),
        (
            "data:\n  topic_batches: auto\n",
            "data.topic_batches: there is no such setting; it was remo",
        ),
        ("data:\n  batch_size: many\n", "data.batch_size (--batch_size): is many, expected a "),
        ("data: [\n", "--config: not a YAML file: "),
    ],
)
def test_errors_in_a_config(config: str, said: str, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(config)
    message = fails(["fit", "--input_jsonl=a", f"--config={path}"], capsys)
    assert message.startswith(said)
    assert "\n" not in message


def test_an_unknown_error_is_kept_on_one_line() -> None:
    assert friendly_error("something\n  else", "fit", []) == "something else"
    assert friendly_error('Parser key "a":\n  odd', "fit", []) == 'Parser key "a": odd'


def test_the_root_cause_is_the_first_error_of_a_chain_or_a_list() -> None:
    try:
        try:
            raise ValueError("scale: is -1,\n  must be above 0.")
        except ValueError as cause:
            raise TypeError("not a Loss") from cause
    except TypeError as error:
        assert root_cause(error) == "scale: is -1, must be above 0"
    tried = "Problem:\n  - Expected a list\n  - patience: is no number!\nGiven value type: dict"
    assert root_cause(TypeError(tried)) == "patience: is no number"
