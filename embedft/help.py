"""What ``--help`` prints: one screen of what matters first. ``--help_all`` prints the rest."""

from __future__ import annotations

import sys
from argparse import SUPPRESS, Action, RawDescriptionHelpFormatter
from collections.abc import Iterable
from shutil import get_terminal_size
from textwrap import wrap
from typing import Any, NamedTuple

from jsonargparse import DefaultHelpFormatter
from lightning.pytorch.cli import LightningArgumentParser

from embedft.arguments import SHORT_FLAGS

PROG = "python -m embedft"
DESCRIPTION = "Fine-tune a sentence-embedding model on question/answer pairs, and measure it."


class Screen(NamedTuple):
    """The first help of a subcommand of the Trainer's."""

    summary: str
    """One line, for the list of subcommands."""
    details: str
    """What one should know before the first try."""
    examples: tuple[str, ...]
    """What follows ``python -m embedft`` and the subcommand's name."""
    flags: tuple[str, ...]


_INPUT = ("input_jsonl", "config", "base_model")
_MEASURE = (
    *_INPUT,
    "ckpt_path",
    "output_dir",
    "validation_jsonl",
    "train_split",
    "on_bad_rows",
    "eval_batch_size",
    "max_seq_length",
    "accelerator",
    "precision",
    "quiet",
)

SCREENS = {
    "check": Screen(
        "Say what fit with the same flags would see and take, and what to change.",
        "Counts bad rows, duplicates, lengths and languages, makes the split, and times a few "
        "steps on this machine. Nothing is written but --html FILE.",
        ("pairs.jsonl", "pairs.jsonl --config configs/recommended.yaml --html check.html"),
        (
            *_INPUT,
            "html",
            "epochs",
            "batch_size",
            "max_seq_length",
            "train_split",
            "validation_jsonl",
            "on_bad_rows",
            "accelerator",
            "devices",
            "precision",
            "quiet",
        ),
    ),
    "fit": Screen(
        "Train, measuring the base model first; export the best and the last weights.",
        "Holds out a tenth of the files, measures the base model on them, trains on the rest, and "
        "says whether the tuned model is better. The best weights lie in OUTPUT_DIR/best_model, "
        "which SentenceTransformer() loads. Ctrl-C saves; --ckpt_path last goes on.",
        (
            "--config configs/recommended.yaml --input_jsonl pairs.jsonl --output_dir out",
            "--input_jsonl pairs.jsonl --epochs 1 --batch_size 32 --output_dir out-32",
        ),
        (
            *_INPUT,
            "output_dir",
            "epochs",
            "batch_size",
            "learning_rate",
            "max_seq_length",
            "loss_function",
            "train_split",
            "validation_jsonl",
            "on_bad_rows",
            "ckpt_path",
            "overwrite",
            "accelerator",
            "devices",
            "precision",
            "seed",
            "quiet",
        ),
    ),
    "validate": Screen(
        "Measure the held-out questions, as test does; loggers get the figures as val/...",
        "Measures base_model, or with --ckpt_path a checkpoint. Nothing is written.",
        (
            "--input_jsonl pairs.jsonl --output_dir out --ckpt_path best",
            "--input_jsonl pairs.jsonl --base_model out/best_model",
        ),
        _MEASURE,
    ),
    "test": Screen(
        "Measure the held-out questions; of a run's checkpoint also write test_report.html.",
        "Measures base_model, or with --ckpt_path a checkpoint. The same --train_split holds out "
        "the same rows as in fit; --train_split 0 measures every question of the file.",
        (
            "--input_jsonl pairs.jsonl --output_dir out --ckpt_path best",
            "--input_jsonl pairs.jsonl --base_model out/best_model",
        ),
        _MEASURE,
    ),
    "predict": Screen(
        "Write the embeddings of a file's questions and answers as .npy.",
        "Writes question_embeddings.npy, answer_embeddings.npy and ids.jsonl, line by line those "
        "of the file, into OUTPUT_DIR.",
        (
            "--input_jsonl pairs.jsonl --base_model out/best_model --output_dir embeddings",
            "--input_jsonl pairs.jsonl --ckpt_path best --output_dir out",
        ),
        (
            *_INPUT,
            "ckpt_path",
            "output_dir",
            "on_bad_rows",
            "eval_batch_size",
            "max_seq_length",
            "accelerator",
            "devices",
            "precision",
            "quiet",
        ),
    ),
}

# Of the subcommands of cli.COMMANDS, whose flags their own docstrings describe.
EXAMPLES = {
    "export": (
        "--ckpt_path out/checkpoints/best.ckpt --output_dir exported",
        "--model out/best_model --push_to_hub ORG/NAME --dry_run",
    ),
    "mine": (
        "--input_jsonl pairs.jsonl --output_jsonl mined.jsonl",
        "--input_jsonl pairs.jsonl --output_jsonl mined.jsonl --base_model out/best_model",
    ),
    "search": (
        '--model out/best_model --input_jsonl pairs.jsonl "Why does a battery age?"',
        '--model out/best_model --input_jsonl pairs.jsonl --compare "Why does a battery age?"',
    ),
}

# Words for a newcomer; what the dotted settings' docstrings say in full stands in --help_all.
FLAGS = {
    "input_jsonl": 'Your pairs, a line {"question": ..., "answer": ..., "file_name": ...} each.',
    "config": "YAML file of settings, or a preset such as recommended; flags win over it.",
    "base_model": "Model to start from, or to measure: a hub id, or a folder.",
    "html": "A page to write, with charts and more examples.",
    "output_dir": "Folder of the run.",
    "epochs": "Passes over the pairs, or auto: 3, and 2 from 10,000 pairs on.",
    "batch_size": "Pairs a step, on each device; more make better negatives and take memory.",
    "eval_batch_size": "Texts embedded at a time.",
    "learning_rate": "Peak rate, or auto: 1e-4, and 1.25e-4 from 10,000 pairs on.",
    "max_seq_length": "Tokens a text at most; longer ones are cut. null: what the model says.",
    "loss_function": "MultipleNegativesRanking, Contrastive, OnlineContrastive, CosineSimilarity.",
    "train_split": "Share of the rows to train on; the others are held out to measure.",
    "validation_jsonl": "Pairs of your own to measure on, instead of holding some out.",
    "on_bad_rows": "error refuses a file with bad rows, skip leaves them out.",
    "ckpt_path": "last, best, or a checkpoint file. fit goes on from it, the others measure it.",
    "overwrite": "Delete the files of an earlier run in output_dir first.",
    "accelerator": "auto, cpu or gpu.",
    "devices": "How many: 4, or -1 for all.",
    "precision": "auto, 32-true, bf16-mixed or 16-mixed.",
    "seed": "Of batches and dropout. The same seed gives the same weights.",
    "quiet": "Print nothing but results, warnings and errors.",
}


ALL_FLAGS = """

Short flags, each the same as the dotted one below:
""" + "\n".join(f"  --{short:17} --{dotted}" for short, dotted in SHORT_FLAGS.items())


class HelpFormatter(DefaultHelpFormatter, RawDescriptionHelpFormatter):
    """Keeps the lines of the description; shows no markup of docstrings."""

    def _expand_help(self, action: Action) -> str:
        return super()._expand_help(action).replace("``", "").replace(" (default: null)", "")

    def format_help(self) -> str:
        """The whole text."""
        return super().format_help().replace("``", "")


class ScreenFormatter(HelpFormatter):
    """A line or two a flag, as on the other screens: what it does and its default, no type."""

    def start_section(self, heading: str | None) -> None:
        """Starts a group without its title: the description has said it."""
        super().start_section(None)

    def _format_action(self, action: Action) -> str:
        if action.dest == "help":
            return ""
        name = action.option_strings[-1] if action.option_strings else action.dest
        return f"{_entry(name, self._expand_help(action))}\n"

    def _get_help_string(self, action: Action) -> str:
        text = action.help or ""
        if action.required:
            text += " (required)"
        elif action.default not in (None, False, SUPPRESS):
            text += " (default: %(default)s)"
        return text


class Parser(LightningArgumentParser):
    """A parser whose ``--help`` is one screen."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.add_argument("--help_all", action=_HelpAll, help="List every setting and exit.")
        add_quiet(self)

    def print_help(self, file: Any = None) -> None:
        """Prints the screen of this parser's subcommand; without one, the list of them."""
        name = self.prog.split()[-1]
        text = one_screen(name, self.get_defaults()) if name in SCREENS else self.description
        print(text, file=file or sys.stdout)


def parser_settings(name: str) -> dict[str, Any]:
    """How the parser of a subcommand is made."""
    screen = SCREENS[name]
    return {
        "usage": f"{PROG} {name} [--config FILE] [--flag VALUE ...]",
        "description": screen.summary + ALL_FLAGS,
        "formatter_class": HelpFormatter,
        "exit_on_error": False,
    }


class _HelpAll(Action):
    def __init__(self, option_strings: list[str], dest: str, help: str) -> None:
        super().__init__(option_strings, SUPPRESS, nargs=0, default=SUPPRESS, help=help)

    def __call__(self, parser: Any, *rest: Any) -> None:
        print(parser.format_help())
        parser.exit()


class _Listed(_HelpAll):
    """A flag that is taken off the command line before it is parsed."""


def add_quiet(parser: Any) -> None:
    """Lists ``--quiet`` among the flags of a parser, or of a group of one."""
    parser.add_argument("--quiet", action=_Listed, help=FLAGS["quiet"])


def one_screen(name: str, defaults: Any) -> str:
    """The first help of one of :data:`SCREENS`.

    Args:
        name: The subcommand.
        defaults: Of its parser.
    """
    screen = SCREENS[name]
    file = "FILE" if name == "check" else "--input_jsonl FILE"
    lines = [f"usage: {PROG} {name} {file} [--config FILE] [--flag VALUE ...]", ""]
    lines += [screen.summary, *wrap(screen.details, _width()), "", examples(name), ""]
    for flag in screen.flags:
        dotted = SHORT_FLAGS.get(flag, flag)
        default = defaults.get(dotted)
        if flag == "loss_function":
            default = default.class_path.rpartition(".")[2]
        text = FLAGS[flag]
        if default not in (None, False):
            text += f" (default: {default})"
        lines.append(_entry(f"--{flag}", text))
    lines += [
        "",
        f"  {PROG} {name} --help_all       every setting: the model's, the data's, Lightning's",
        f"  {PROG} {name} --print_config   the same as YAML, to be changed and given to --config",
    ]
    return "\n".join(lines)


def overview(summaries: Iterable[tuple[str, str]]) -> str:
    """The help without a subcommand: its description and the list of them."""
    lines = [DESCRIPTION, "", "subcommands:"]
    lines += [_entry(name, summary) for name, summary in summaries]
    lines += [
        "",
        "examples:",
        f"  {PROG} fit {SCREENS['fit'].examples[0]}",
        f"  {PROG} test {SCREENS['test'].examples[1]}",
        "",
        f"{PROG} SUBCOMMAND --help says more of one.",
    ]
    return "\n".join(lines)


def examples(name: str) -> str:
    """Two command lines that one may type."""
    screen = SCREENS.get(name)
    some = screen.examples if screen else EXAMPLES.get(name, ())
    return "\n".join(["examples:", *(f"  {PROG} {name} {example}" for example in some)])


def _entry(name: str, text: str) -> str:
    lines = wrap(text, _width() - 21, break_on_hyphens=False)  # so that a value can be copied
    return f"  {name:18} " + f"\n{'':21}".join(lines)


def _width() -> int:
    return max(60, min(100, get_terminal_size((100, 24)).columns))
