"""``fit``, ``evaluate`` and ``search`` from Python: the command line's own code and names."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from embedft.cli.app import EmbedftCLI
from embedft.cli.main import run
from embedft.errors import InputError, check_at_least
from embedft.inference.search_index import Hit, SearchIndex
from embedft.run.folder import RunFolder
from embedft.tools.log import start_log
from embedft.tools.progress import set_quiet

StrPath = str | PathLike[str]


@dataclass(frozen=True, slots=True)
class FitResult:
    """The results of a fit.

    Attributes:
        output_dir: Folder of the run.
        best_model: Folder of the best weights, for ``SentenceTransformer(folder)``. It holds the
            base model if no checkpoint scored as well on the held-out questions.
        final_model: Folder of the last weights.
        metrics: What ``metrics.json`` holds: ``base``, ``best`` and ``last`` with ``ndcg@10``,
            ``mrr@10``, ...; ``best`` also with the ``gain`` and its interval; ``best_model``,
            which of them that folder holds; ``data``; ``files``.
    """

    output_dir: Path
    best_model: Path
    final_model: Path
    metrics: dict[str, Any]


def fit(input_jsonl: StrPath, output_dir: StrPath, **settings: Any) -> FitResult:
    """Trains as ``python -m embedft fit`` does, and exports the best and the last model.

    Args:
        input_jsonl: JSONL file of question/answer pairs.
        output_dir: Folder of the run.
        settings: Any flag of ``fit`` by its name, such as ``epochs=1`` or
            ``**{"model.loss": "ContrastiveLoss"}``. ``config`` is one YAML file or several.
            Defaults are those of the command line. ``quiet=True`` prints only warnings, to
            standard error.

    Raises:
        InputError: The input or a setting can't be used.
        RunFailedError: The run can't continue.
        StoppedError: SIGINT or SIGTERM stopped the run after it was saved.
    """
    cli = _run("fit", {"input_jsonl": input_jsonl, "output_dir": output_dir, **settings})
    cli.trainer.strategy.barrier()  # the other ranks read what the first rank writes
    folder = RunFolder(Path(cli.settings.output_dir))
    return FitResult(
        folder.path,
        folder.best_model,
        folder.final_model,
        json.loads(folder.metrics.read_text(encoding="utf-8")),
    )


def evaluate(model: StrPath, input_jsonl: StrPath, **settings: Any) -> dict[str, float]:
    """Evaluates a model as ``python -m embedft test`` does.

    Args:
        model: Folder or hub id.
        input_jsonl: JSONL file of question/answer pairs. The questions that ``fit`` holds out, or
            all with ``train_split=0``, are searched among all answers of the file.
        settings: Any flag of ``test`` by its name; ``quiet`` as in :func:`fit`.

    Returns:
        ``ndcg@10``, ``mrr@10``, ``recall@1``, ..., each from 0 to 1, and the losses ``loss`` and
        ``cosine_pair_loss``.

    Raises:
        InputError: The input or a setting can't be used.
    """
    cli = _run("test", {"input_jsonl": input_jsonl, "base_model": model, **settings})
    return dict(cli.model.last_evaluation)


def search(
    questions: str | Sequence[str],
    model: StrPath,
    input_jsonl: StrPath,
    top_k: int = 5,
    quiet: bool = False,
    **settings: Any,
) -> list[list[Hit]]:
    """The answers of a file that are most similar to each question by a model.

    For many calls, keep a :class:`~embedft.inference.search_index.SearchIndex`.

    Args:
        questions: One question or several.
        model: Folder or hub id of the model that searches.
        input_jsonl: JSONL file whose answers are searched.
        top_k: Answers per question.
        quiet: Show no progress bars while answers are embedded.
        settings: As for :class:`~embedft.inference.search_index.SearchIndex`.

    Returns:
        For each question its hits, the most similar first.

    Raises:
        InputError: The input, the model or a setting can't be used.
    """
    check_at_least(1, top_k=top_k)
    start_log(quiet, warnings_only=True)
    asked = [questions] if isinstance(questions, str) else list(questions)
    try:
        return SearchIndex(str(model), str(input_jsonl), **settings).search(asked, top_k)
    finally:
        set_quiet(False)


def _run(subcommand: str, settings: Mapping[str, Any]) -> EmbedftCLI:
    """Runs a subcommand with its flags."""
    settings = dict(settings)
    configs = settings.pop("config", [])
    if isinstance(configs, str | PathLike):
        configs = [configs]
    flags = [("config", config) for config in configs]  # first, because flags win over configs
    quiet = bool(settings.pop("quiet", False))
    args = [f"--{name}={_text(name, value)}" for name, value in [*flags, *settings.items()]]
    cli = run([subcommand, *args], without_results=quiet)
    assert cli is not None
    return cli


def _text(name: str, value: Any) -> str:
    """A value as the command line reads it.

    Raises:
        InputError: It can't be written so, such as an object of a class.
    """
    if isinstance(value, str | PathLike):
        return str(value)
    try:
        return json.dumps(value)
    except (TypeError, ValueError):
        raise InputError(
            f"{name}: is a {type(value).__name__}; give a number, a text, a list or a dict "
            '(a class as {"class_path": ..., "init_args": ...})'
        ) from None
