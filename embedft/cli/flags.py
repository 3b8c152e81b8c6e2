"""The table of flags. Everything else that knows a flag's name takes it from here.

A flag is one row: its name, the setting that it stands for, the ``--help`` pages that list it, and
a line for a newcomer. The docstring of the setting says the rest in ``--help_all``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from embedft.losses import LOSSES
from embedft.run.folder import DEFAULT_OUTPUT_DIR


class Flag(NamedTuple):
    """A flag of the subcommands that run the Trainer."""

    name: str
    setting: str = ""
    """The parser's own name for it, ``section.parameter``; empty if it has no other."""
    pages: tuple[str, ...] = ()
    """The subcommands whose ``--help`` lists it; ``--help_all`` lists every flag."""
    help: str = ""
    type: Any = None
    """Of a flag that belongs to a run as a whole, not to model, data or trainer."""
    default: Any = None
    older: bool = False
    """Whether the older tool's flat JSON config has it."""


_ALL = ("check", "fit", "validate", "test", "predict")
_USE_WEIGHTS = ("fit", "validate", "test", "predict")
_SPLIT = ("check", "fit", "validate", "test")
_TRAIN = ("check", "fit")
_EVALUATE = ("validate", "test", "predict")

FLAGS = (
    Flag(
        "input_jsonl",
        "data.input_jsonl",
        _ALL,
        'Your pairs: {"question": ..., "answer": ..., "file_name": ...} on each line.',
        older=True,
    ),
    Flag(
        "config",
        pages=_ALL,
        help="YAML file of settings, or a preset such as recommended. Flags win over it.",
    ),
    Flag(
        "base_model",
        "model.base_model",
        _ALL,
        "Model to train or to evaluate: a hub id or a folder.",
        older=True,
    ),
    Flag(
        "ckpt_path",
        pages=_USE_WEIGHTS,
        help="last, best or a checkpoint file. fit resumes it, the others evaluate it.",
    ),
    Flag(
        "output_dir",
        pages=_USE_WEIGHTS,
        help="Folder of the run. predict writes into it, or if it holds a run beside it, into "
        "output_dir-predictions.",
        type=str,
        default=DEFAULT_OUTPUT_DIR,
        older=True,
    ),
    Flag(
        "overwrite",
        pages=("fit", "predict"),
        help="Replace the files of an earlier run in output_dir, and no others.",
        type=bool,
        default=False,
    ),
    Flag(
        "save_steps",
        help="Steps between two writes of checkpoints/last.ckpt.",
        type=int,
        default=100,
    ),
    Flag(
        "save_total_limit",
        help="How many checkpoints to keep: last.ckpt and the step-N.ckpt before it.",
        type=int,
        default=2,
    ),
    Flag(
        "report",
        help="HTML page of the results. Default: fit writes output_dir/report.html. test of a "
        "checkpoint of that run writes output_dir/test_report.html and evaluates the base model "
        "for it. validate writes none.",
        type=str | None,
    ),
    Flag("html", pages=("check",), help="HTML page to write, with charts and more examples."),
    Flag(
        "epochs",
        "trainer.max_epochs",
        _TRAIN,
        "Passes over the pairs.",
    ),
    Flag("num_epochs", "trainer.max_epochs", older=True),
    Flag(
        "batch_size",
        "data.batch_size",
        _TRAIN,
        "Batch size per device. Larger ones give more in-batch negatives.",
    ),
    Flag("train_batch_size", "data.batch_size", older=True),
    Flag(
        "eval_batch_size",
        "data.eval_batch_size",
        _EVALUATE,
        "Texts to embed at a time.",
        older=True,
    ),
    Flag(
        "learning_rate",
        "model.learning_rate",
        ("fit",),
        "Peak learning rate.",
        older=True,
    ),
    Flag("warmup_steps", "model.warmup_steps", older=True),
    Flag(
        "max_seq_length",
        "model.max_seq_length",
        _ALL,
        "Maximum tokens per text. null: the base model's own limit.",
        older=True,
    ),
    Flag(
        "loss_function",
        "model.loss",
        ("fit",),
        f"{', '.join(name.removesuffix('Loss') for name in LOSSES)}.",
        older=True,
    ),
    Flag(
        "train_split",
        "data.train_split",
        _SPLIT,
        "Share of the rows to train on; the others are held out.",
        older=True,
    ),
    Flag(
        "validation_jsonl",
        "data.validation_jsonl",
        _SPLIT,
        "A separate validation file, instead of holding out rows of input_jsonl.",
    ),
    Flag("evaluation_steps", "trainer.val_check_interval", older=True),
    Flag(
        "on_bad_rows",
        "data.on_bad_rows",
        _ALL,
        "error refuses a file with bad rows, skip leaves them out.",
    ),
    Flag("accelerator", "trainer.accelerator", _ALL, "auto, cpu or gpu."),
    Flag(
        "devices",
        "trainer.devices",
        (*_TRAIN, "predict"),
        "Number of devices, such as 4; -1 for all.",
    ),
    Flag("strategy", "trainer.strategy"),
    Flag("precision", "trainer.precision", _ALL, "auto, 32-true, bf16-mixed or 16-mixed."),
    Flag(
        "seed",
        "seed_everything",
        ("fit",),
        "Seed of batches and dropout: the same seed, the same weights.",
    ),
    Flag("quiet", pages=_ALL, help="Print only results, warnings and errors."),
)

HELP = {flag.name: flag.help for flag in FLAGS}

SHORT_FLAGS = {flag.name: flag.setting for flag in FLAGS if flag.setting}
"""The setting of each short flag; of two flags for one setting the first is the usual one."""

FLAT_CONFIG_KEYS = tuple(flag.name for flag in FLAGS if flag.older)
"""What the older tool's flat JSON config may hold."""

RUN_FLAGS = tuple(flag for flag in FLAGS if flag.type is not None)
"""Flags that belong to a run as a whole."""

SWITCHES = frozenset(flag.name for flag in RUN_FLAGS if flag.default is False)
"""Flags that may stand without a value."""


def flags_of_page(name: str) -> list[Flag]:
    """The flags that ``--help`` of a subcommand lists, in their order."""
    return [flag for flag in FLAGS if name in flag.pages]
