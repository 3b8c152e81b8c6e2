"""The subcommand ``search``: prints the answers to questions as columns or as JSON."""

from __future__ import annotations

import io
import json as jsonlib
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from huggingface_hub import metadata_load
from rich.text import Text

from embedft.encoder.base_model import DEFAULT_BASE_MODEL
from embedft.errors import InputError, check_at_least
from embedft.inference.search_index import Hit, SearchIndex
from embedft.tools.text import error_line, one_line

BASE_OF_MODEL = "auto"
"""The value of ``--compare`` that means the base model of the model that searches."""

MODEL_NAME = re.compile(r"(?!-)[\w.~/:-]+", re.ASCII)
"""What may be a model after ``--compare``; a question has blanks."""

_NAME = 24
"""Maximum columns of an id or a file name on a terminal."""


def search(
    questions: list[str],
    model: str,
    input_jsonl: str,
    top_k: int = 5,
    compare: str | None = None,
    json: bool = False,
    **settings: Any,
) -> None:
    """Prints the answers of a file that are most similar to each question by a model.

    Args:
        questions: The questions. Without any they are read from standard input, one on each line.
        model: Folder or hub id of the model that searches, such as out/best_model.
        input_jsonl: JSONL file whose answers are searched.
        top_k: Answers per question.
        compare: A second model, whose answers are also shown. ``--compare`` without a value means
            the base model that ``model`` was tuned from.
        json: Print one JSON object per question, each on its own line.
        settings: As for :class:`~embedft.inference.search_index.SearchIndex`.

    Raises:
        InputError: The input, a model or a setting can't be used.
    """
    check_at_least(1, top_k=top_k)  # before the model is read
    index, other = SearchIndex(model, input_jsonl, **settings), None
    if compare is not None:
        base = base_model_of(model) if compare == BASE_OF_MODEL else compare
        try:
            other = SearchIndex(base, input_jsonl, **settings)
        except InputError as error:
            raise InputError(f"{error}; --compare FOLDER compares with another model") from None
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal may not have every character
    for question in questions or _asked():
        hits = index.search([question], top_k)[0]
        others = None if other is None else other.search([question], top_k)[0]
        if json:
            line: dict[str, Any] = {"question": question, "hits": [hit._asdict() for hit in hits]}
            if other is not None and others is not None:
                line["compare"] = {"model": other.model, "hits": [hit._asdict() for hit in others]}
            text = _visible(jsonlib.dumps(line, ensure_ascii=False))
        elif other is None or others is None:
            text = "\n".join([_plain(question), *_lines(hits), ""])
        else:
            blocks = [f"by {model}", *_lines(hits, others), f"by {other.model}"]
            text = "\n".join([_plain(question), *blocks, *_lines(others, hits), ""])
        print(text, flush=True)


def base_model_of(model: str) -> str:
    """The base model that the card in a model's folder names.

    Raises:
        InputError: The card can't be read.
    """
    card = Path(model).expanduser() / "README.md"
    try:
        metadata = (metadata_load(card) if card.is_file() else None) or {}
    except Exception as error:  # YAML has kinds of its own
        raise InputError(
            f"{card}: can't be read: {error_line(error)}; name a model: --compare BASE"
        ) from None
    named = metadata.get("base_model") or DEFAULT_BASE_MODEL
    return str(named[0] if isinstance(named, list) else named)


def _asked() -> Iterator[str]:
    """Lines of standard input that are not blank; on a terminal, with a prompt."""
    if sys.stdin.isatty():
        yield from _prompted()
        return
    try:
        yield from (line.strip() for line in sys.stdin if line.strip())
    except UnicodeDecodeError as error:
        raise InputError(f"standard input: is not UTF-8: {error}") from None


def _prompted() -> Iterator[str]:
    with suppress(ImportError):  # Windows has none
        import readline  # noqa: F401  # gives input() its arrow keys and history
    print("Type a question; an empty line or quit ends.", file=sys.stderr)
    prompt = (
        "question: " if sys.stdout.isatty() else ""
    )  # no prompt among answers that go to a file
    try:
        while (question := input(prompt).strip()) and question.lower() not in {"quit", "exit"}:
            yield question
    except (EOFError, KeyboardInterrupt):
        print(file=sys.stderr)


def _lines(hits: list[Hit], others: list[Hit] | None = None) -> list[str]:
    """Rank, score, rank by the other model, id, file and text of each hit, in columns."""
    columns = shutil.get_terminal_size((0, 0)).columns  # none in a pipe: nothing is cut
    ranks = {hit.text: rank for rank, hit in enumerate(others or [], 1)}
    rows = []
    for rank, hit in enumerate(hits, 1):
        row = [f"{rank:3}", f"{hit.score:6.3f}"]
        if others is not None:
            row.append(f"({ranks.get(hit.text, '-')})")
        rows.append([*row, _short(hit.ids), _short(hit.file_names), _plain(hit.text)])
    widths = [max(Text(cell).cell_len for cell in column) for column in zip(*rows, strict=True)]
    if columns:
        widths[-3:-1] = [min(width, _NAME) for width in widths[-3:-1]]
    lines = []
    for row in rows:
        cells = [_fitted(cell, width) for cell, width in zip(row[:-1], widths, strict=False)]
        line = "  ".join([*(cell for cell in cells if cell), row[-1]])
        lines.append(_fitted(line, columns).rstrip() if columns else line)
    return lines


def _short(names: list[str]) -> str:
    """The first name, and how many more there are."""
    more = f" +{len(names) - 1}" if len(names) > 1 else ""
    return _plain(names[0]) + more if names else ""


def _plain(text: str) -> str:
    """A text on one line, without control characters of terminals."""
    return "".join(character for character in one_line(text) if character.isprintable())


def _visible(json: str) -> str:
    """JSON in which characters that can't be seen are escaped; its content is the same."""
    if json.isprintable():
        return json
    return "".join(sign if sign.isprintable() else jsonlib.dumps(sign)[1:-1] for sign in json)


def _fitted(text: str, width: int) -> str:
    """A text cut or padded to ``width`` columns of a terminal; wide characters take two."""
    fitted = Text(text)
    fitted.truncate(width, overflow="ellipsis", pad=True)
    return fitted.plain
