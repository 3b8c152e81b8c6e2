"""The texts of --help: one screen a subcommand."""

from __future__ import annotations

from typing import NamedTuple

from embedft.recipe import RULES


class HelpPage(NamedTuple):
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
    "check": HelpPage(
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
    "fit": HelpPage(
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
    "validate": HelpPage(
        "Measure the held-out questions, as test does; loggers get the figures as val/...",
        "Measures base_model, or with --ckpt_path a checkpoint. Nothing is written.",
        (
            "--input_jsonl pairs.jsonl --output_dir out --ckpt_path best",
            "--input_jsonl pairs.jsonl --base_model out/best_model",
        ),
        _MEASURE,
    ),
    "test": HelpPage(
        "Measure the held-out questions; of a run's checkpoint also write test_report.html.",
        "Measures base_model, or with --ckpt_path a checkpoint. The same --train_split holds out "
        "the same rows as in fit; --train_split 0 measures every question of the file.",
        (
            "--input_jsonl pairs.jsonl --output_dir out --ckpt_path best",
            "--input_jsonl pairs.jsonl --base_model out/best_model",
        ),
        _MEASURE,
    ),
    "predict": HelpPage(
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
    "epochs": f"Passes over the pairs, or auto: {RULES['max_epochs']}.",
    "batch_size": "Pairs a step, on each device; more make better negatives and take memory.",
    "eval_batch_size": "Texts embedded at a time.",
    "learning_rate": f"Peak learning rate, or auto: {RULES['learning_rate']}.",
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
