"""The table of flags agrees with the parser."""

from __future__ import annotations

import re

import yaml
from command_line import Capture, printed, printed_config

from embedft.cli.flags import FLAGS, SHORT_FLAGS
from embedft.cli.help_pages import TRAINER_PAGES


def test_flags_of_the_help_pages_exist_and_show_the_defaults_of_the_parser(capsys: Capture) -> None:
    for name in TRAINER_PAGES:
        config = yaml.safe_load(printed([name, "--input_jsonl=a", "--print_config"], capsys))
        config |= {"loss": config["model"]["loss"]["class_path"].rpartition(".")[2]}
        said = " ".join(printed([name, "--help"], capsys).split())
        shown = dict(re.findall(r"--(\w+) (?:(?! --\w).)*? \(default: (\S+)\)", said))
        assert {"base_model", "precision"} <= shown.keys()
        for flag, default in shown.items():
            value = config
            for key in (SHORT_FLAGS.get(flag) or flag).split("."):
                value = value[key]
            if flag == "loss_function":
                value = config["loss"]
            assert default == str(value), (name, flag)
    assert all(bool(flag.pages) <= bool(flag.help) for flag in FLAGS)
    assert {page for flag in FLAGS for page in flag.pages} == TRAINER_PAGES.keys()


def test_defaults(capsys: Capture) -> None:
    config = printed_config(["fit", "--input_jsonl=a"], capsys)
    assert config["trainer"]["max_epochs"] == 3
    assert config["trainer"]["precision"] == "auto"
    assert config["data"]["batch_size"] == 64
    assert config["model"]["learning_rate"] == 1e-4
    assert config["model"]["warmup_steps"] == "auto"
    assert config["model"]["loss"]["class_path"] == "embedft.MultipleNegativesRankingLoss"
