"""What a newcomer reads first: help, suggestions, the shell's completion."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from embedft.cli.commands import COMMANDS, command_flags, parse_command
from embedft.cli.flags import FLAGS, SHORT_FLAGS
from embedft.cli.help_pages import COMMAND_PAGES, PAGES, TRAINER_PAGES
from embedft.cli.main import main
from embedft.cli.messages import friendly_error

Capture = pytest.CaptureFixture[str]
ALL = list(PAGES)


def printed(args: Sequence[str], capsys: Capture) -> str:
    """What is printed by a command line that only prints."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as error:
        main(list(args))
    assert error.value.code == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def refused(line: str, capsys: Capture) -> str:
    """The one line that a command line is refused with."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as error:
        main(shlex.split(line))
    assert error.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said.removeprefix("embedft: error: ").rstrip("\n")


@pytest.mark.parametrize(("columns", "lines"), [(80, 48), (100, 40)])
@pytest.mark.parametrize("name", ALL)
def test_a_subcommands_help_is_one_screen(
    name: str, columns: int, lines: int, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    said = printed([name, "--help"], capsys)
    assert said.startswith(f"usage: python -m embedft {name} ")
    assert said.count("\n") <= lines
    assert not re.search(r"type:|\bnull\)|Literal|\{true,false\}", said)
    assert "\n  --quiet " in said
    assert said.count(f"\n  python -m embedft {name} ") >= 2
    assert "--input_jsonl" in said or name in {"export", "generate"}


@pytest.mark.parametrize("args", [[], ["--help"], ["-h"], ["--quiet"]])
def test_the_list_of_subcommands(args: list[str], capsys: Capture) -> None:
    said = printed(args, capsys)
    assert all(f"\n  {name} " in said for name in ALL)
    assert said.count("\n") < 40


def test_the_screens_flags_exist_and_their_defaults_are_the_parsers(capsys: Capture) -> None:
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


@pytest.mark.parametrize(
    ("name", "required"),
    [
        ("export", []),
        ("mine", ["input_jsonl", "output_jsonl"]),
        ("search", ["model", "input_jsonl"]),
    ],
)
def test_a_commands_screen_has_each_of_its_flags(
    name: str, required: list[str], capsys: Capture
) -> None:
    said = " ".join(printed([name, "--help"], capsys).split())
    defaults = command_flags(name)
    assert len(defaults) > 8
    assert all(f" --{flag} " in said for flag in defaults)
    shown = dict(re.findall(r"--(\w+) (?:(?! --\w).)*? \(default: (\S+)\)", said))
    assert shown == {flag: str(default) for flag, default in defaults.items() if default}
    assert re.findall(r"--(\w+) (?:(?! --\w).)*? \(required\)", said) == required


def test_help_all_lists_every_setting(capsys: Capture) -> None:
    said = printed(["fit", "--help_all"], capsys)
    assert all(f"--{short} " in said and f"--{long}" in said for short, long in SHORT_FLAGS.items())
    assert "--trainer.accumulate_grad_batches" in said
    assert "--model.base_share" in said
    assert printed(["mine", "--help_all"], capsys) == printed(["mine", "--help"], capsys)


def test_version(capsys: Capture) -> None:
    main(["--version"])
    assert capsys.readouterr().out == "embedft 0.1.0\n"


def test_help_as_a_word(capsys: Capture) -> None:
    assert printed(["help"], capsys) == printed(["--help"], capsys)
    for name in ("fit", "search"):
        assert printed(["help", name], capsys) == printed([name, "--help"], capsys)


@pytest.mark.parametrize("name", [*ALL, "fit --help_all"])
def test_help_has_no_markup_and_contradicts_itself_nowhere(name: str, capsys: Capture) -> None:
    said = printed([*name.split(), "--help"][:2], capsys)
    assert "``" not in said
    if name == "search":
        assert "are read from the terminal. --model " in " ".join(said.split())


@pytest.mark.parametrize("name", TRAINER_PAGES)
def test_a_file_without_a_flag(name: str, capsys: Capture) -> None:
    bare = printed([name, "a.jsonl", "--batch_size", "8", "--print_config"], capsys)
    assert bare == printed(
        [name, "--input_jsonl=a.jsonl", "--batch_size=8", "--print_config"], capsys
    )


def test_every_example_parses(capsys: Capture) -> None:
    """Their files need not be there: nothing is read before the settings are checked."""
    for name, screen in TRAINER_PAGES.items():
        for example in screen.examples:
            flags = shlex.split(example.replace("--ckpt_path best", ""))
            assert yaml.safe_load(printed([name, *flags, "--print_config"], capsys))["data"]
    assert COMMANDS.keys() == COMMAND_PAGES.keys()
    for name, page in COMMAND_PAGES.items():
        for example in page.examples:
            parse_command(name, shlex.split(example))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("tset --input_jsonl a", "tset: no such subcommand; did you mean test?"),
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
        ("fit --data.topic_batches 2", "data.topic_batches: is 2, expected true or false"),
        ("fit --model.loss.scal 3", "model.loss.scal: there is no such setting; python -m embedft"),
        ("fit --model.loss.scale abc", "model.loss.scale: is abc, expected a number"),
        (
            "fit --model.loss.additive_margin high",
            "model.loss.additive_margin: is high, expected a number or auto",
        ),
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
    assert said in refused(line, capsys)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("model:\n  learning_rat: 1\n", "model.learning_rat: there is no such setting; did you "),
        ("data:\n  batch_size: many\n", "data.batch_size (--batch_size): is many, expected a "),
        ("data: [\n", "--config: not a YAML file: "),
    ],
)
def test_errors_in_a_config(config: str, said: str, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(config)
    assert refused(f"fit --input_jsonl a --config {path}", capsys).startswith(said)


def test_what_is_not_understood_is_kept() -> None:
    assert friendly_error("something\n  else", "fit", []) == "something else"
    assert friendly_error('Parser key "a":\n  odd', "fit", []) == 'Parser key "a": odd'


@pytest.mark.slow
def test_bash_completes_subcommands_and_flags(tmp_path: Path, capsys: Capture) -> None:
    capsys.readouterr()
    with pytest.raises(SystemExit) as error:
        main(["--print_completion=bash"])
    assert not error.value.code
    script = tmp_path / "embedft.bash"
    script.write_text(capsys.readouterr().out)
    assert script.stat().st_size < 2e6  # read at the first completion of every shell
    subprocess.run(["bash", "-n", str(script)], check=True)

    def completed(*words: str) -> set[str]:
        line = " ".join(words)
        typed = f"""source {script}
COMP_WORDS=({line}) COMP_CWORD={len(words) - 1} COMP_LINE="{line}" COMP_POINT={len(line)}
$(complete -p embedft | sed 's/.*-F \\(\\S*\\).*/\\1/')
printf '%s\\n' "${{COMPREPLY[@]}}" """
        result = subprocess.run(["bash", "-c", typed], capture_output=True, text=True, check=True)
        return set(result.stdout.split())

    assert completed("embedft", "fit", "--batch_s") == {"--batch_size"}
    assert completed("embedft", "fit", "--trainer.max_e") == {"--trainer.max_epochs"}
    assert completed("embedft", "fit", "--model.loss.sc") == {"--model.loss.scale"}
    assert completed("embedft", "mine", "--num") == {"--num_negatives"}
    assert completed("embedft", "va") == {"validate"}
    assert "--quiet" in completed("embedft", "predict", "--")
    assert "mine" in completed("embedft", "m")
