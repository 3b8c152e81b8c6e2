"""The texts of ``--help``, one page a subcommand. Their flags are in :mod:`embedft.cli.flags`."""

from __future__ import annotations

from typing import NamedTuple


class HelpPage(NamedTuple):
    """What ``--help`` of a subcommand says besides its flags."""

    summary: str
    """One line, also for the list of subcommands."""
    examples: tuple[str, ...]
    """What follows ``python -m embedft`` and the subcommand's name."""
    details: str = ""
    """What one should know before the first try."""


TRAINER_PAGES = {
    "check": HelpPage(
        "Show what fit with the same flags would read and need, and what to change.",
        ("pairs.jsonl", "pairs.jsonl --html check.html"),
        "Counts bad rows, duplicates, lengths and languages, makes the split, and times a few "
        "steps on this machine. Writes nothing but --html FILE.",
    ),
    "fit": HelpPage(
        "Evaluate the base model, train it, and export the best and the last weights.",
        (
            "--input_jsonl pairs.jsonl --output_dir out",
            "--input_jsonl pairs.jsonl --epochs 1 --batch_size 32 --output_dir out-32",
        ),
        "Holds out a tenth of the files, evaluates the base model on them, trains on the rest, and "
        "says whether the tuned model is better. The best weights are in OUTPUT_DIR/best_model, "
        "which SentenceTransformer() loads. Ctrl-C saves; --ckpt_path last resumes.",
    ),
    "validate": HelpPage(
        "Evaluate on the held-out questions, as test does; loggers get the metrics as val/...",
        (
            "--input_jsonl pairs.jsonl --output_dir out --ckpt_path best",
            "--input_jsonl pairs.jsonl --base_model out/best_model",
        ),
        "Evaluates base_model or, with --ckpt_path, a checkpoint. Writes nothing.",
    ),
    "test": HelpPage(
        "Evaluate on the held-out questions; for a run's checkpoint also write test_report.html.",
        (
            "--input_jsonl pairs.jsonl --output_dir out --ckpt_path best",
            "--input_jsonl pairs.jsonl --base_model out/best_model",
        ),
        "Evaluates base_model or, with --ckpt_path, a checkpoint. The same --train_split holds out "
        "the same rows as in fit. --train_split 0 evaluates on every question of the file.",
    ),
    "predict": HelpPage(
        "Write the embeddings of a file's questions and answers as .npy.",
        (
            "--input_jsonl pairs.jsonl --base_model out/best_model --output_dir embeddings",
            "--input_jsonl pairs.jsonl --ckpt_path best --output_dir out",
        ),
        "Writes question_embeddings.npy, answer_embeddings.npy and ids.jsonl into OUTPUT_DIR, "
        "row by row in the order of the file.",
    ),
}
"""The subcommands that run the Trainer."""

COMMAND_PAGES = {
    "export": HelpPage(
        "Export a checkpoint for sentence-transformers or as ONNX; upload it to the hub.",
        (
            "--ckpt_path out/checkpoints/best.ckpt --output_dir exported",
            "--model out/best_model --push_to_hub ORG/NAME --dry_run",
        ),
    ),
    "generate": HelpPage(
        "Make question/answer pairs from a folder of texts, with an OpenAI-compatible endpoint.",
        (
            "--input_dir papers --output_jsonl pairs.jsonl --dry_run",
            "--input_dir papers --output_jsonl pairs.jsonl",
        ),
    ),
    "mine": HelpPage(
        "Find hard negatives: for each question of a file, wrong answers that a model ranks high.",
        (
            "--input_jsonl pairs.jsonl --output_jsonl mined.jsonl",
            "--input_jsonl pairs.jsonl --output_jsonl mined.jsonl --base_model out/best_model",
        ),
    ),
    "search": HelpPage(
        "Print the answers of a file that a model ranks highest for your questions.",
        (
            '--model out/best_model --input_jsonl pairs.jsonl "Why does a battery age?"',
            '--model out/best_model --input_jsonl pairs.jsonl --compare "Why does a battery age?"',
        ),
    ),
}
"""The subcommands of :mod:`embedft.cli.commands`; their functions' docstrings name the flags."""

PAGES = {**TRAINER_PAGES, **COMMAND_PAGES}
