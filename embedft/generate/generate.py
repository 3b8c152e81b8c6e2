"""The command ``generate``: question/answer pairs from a folder of texts."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from embedft.errors import InputError, RunFailedError, StoppedError, check_at_least
from embedft.generate.ask import ask_all, request_key
from embedft.generate.endpoint import Endpoint, read_key
from embedft.generate.estimate import Prices, estimate
from embedft.generate.journal import Journal
from embedft.generate.passages import Passage, find_files, read_passages
from embedft.tools.progress import progress
from embedft.tools.text import printable


def generate(
    input_dir: str,
    output_jsonl: str,
    dry_run: bool = False,
    base_url: str | None = None,
    model: str | None = None,
    api_key: str | None = None,
    pairs_per_passage: int = 3,
    max_chars: int = 1200,
    min_chars: int = 200,
    max_passages: int | None = None,
    on_bad_files: Literal["error", "skip"] = "error",
    overwrite: bool = False,
    requests_per_minute: float = 0.0,
    concurrency: int = 4,
    timeout: float = 120.0,
    max_retries: int = 6,
    response_format: Literal["text", "json_object", "json_schema"] = "json_object",
    input_price: float | None = None,
    output_price: float | None = None,
    tokenizer: str | None = None,
) -> None:
    """Asks a language model for pairs about each passage of a folder, and writes them as JSONL.

    A flag wins over the environment. Each answer is kept in a journal. The same command resumes a
    run that was stopped or killed.

    Args:
        input_dir: Folder of .txt, .md and .xml (TEI) files.
        output_jsonl: File for the pairs; FILE.journal lies beside it.
        dry_run: Ask nothing; print what it would cost.
        base_url: Ends with /v1. By default OPENAI_BASE_URL, else OpenAI's own.
        model: The model's name at the endpoint. By default OPENAI_MODEL.
        api_key: Better set in OPENAI_API_KEY, because others can see a command line.
        pairs_per_passage: How many pairs are asked for.
        max_chars: Longest passage, in characters; longer paragraphs are cut.
        min_chars: Shortest passage, in characters; shorter ones are left out.
        max_passages: At most this many, spread evenly over all passages; for a try.
        on_bad_files: error ends the run at a file that can't be read, skip leaves it out.
        overwrite: Start over, and ask about everything again.
        requests_per_minute: Limit for requests, repeated ones included; 0 is no limit.
        concurrency: Requests at a time.
        timeout: Seconds without a byte from the endpoint.
        max_retries: Of one request.
        response_format: What the endpoint is told: json_object, json_schema, or text, which all
            endpoints understand.
        input_price: Price of a million tokens sent.
        output_price: Price of a million tokens received.
        tokenizer: Hub id or folder of the tokenizer by which --dry_run counts tokens.

    Raises:
        InputError: The input or a setting can't be used.
        RunFailedError: The endpoint refuses, or passages failed.
        StoppedError: Ctrl-C stopped the run.
    """
    check_at_least(1, pairs_per_passage=pairs_per_passage, min_chars=min_chars)
    check_at_least(1, max_passages=max_passages, concurrency=concurrency)
    check_at_least(100, max_chars=max_chars)
    check_at_least(0, max_retries=max_retries, requests_per_minute=requests_per_minute)
    check_at_least(0, timeout=timeout, input_price=input_price, output_price=output_price)
    if min_chars > max_chars:
        raise InputError(f"min_chars: is {min_chars}, must be at most max_chars, {max_chars}")
    endpoint = Endpoint(
        model=model or os.environ.get("OPENAI_MODEL"),
        base_url=base_url or os.environ.get("OPENAI_BASE_URL") or None,
        api_key=read_key(api_key or os.environ.get("OPENAI_API_KEY")),
        response_format=response_format,
        requests_per_minute=requests_per_minute,
        timeout=timeout,
        max_retries=max_retries,
    )
    output, prices = Path(output_jsonl), Prices(input_price, output_price)
    passages = read_folder(Path(input_dir), min_chars, max_chars, on_bad_files)
    count = min(max_passages or len(passages), len(passages))
    passages = [passages[number * len(passages) // count] for number in range(count)]
    if dry_run:
        left = _not_answered(Journal(output, overwrite), passages, pairs_per_passage)
        print(estimate(endpoint, passages, left, pairs_per_passage, prices, tokenizer))
        return
    with _only_run(output):
        journal = Journal(output, overwrite)
        _run(endpoint, passages, pairs_per_passage, concurrency, prices, journal)


@contextmanager
def _only_run(output: Path) -> Iterator[None]:
    """Refuses to start if another run is writing the output; says how to resume after Ctrl-C."""
    lock = Path(f"{output}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock, timeout=0):
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
    except Timeout:
        raise RunFailedError(f"{output}: another run is writing it") from None
    except KeyboardInterrupt:
        raise StoppedError(signal.SIGINT, "run the same command to resume") from None


def read_folder(
    folder: Path, min_chars: int, max_chars: int, on_bad_files: str = "error"
) -> list[Passage]:
    """The passages of all files of a folder.

    Raises:
        InputError: A file is bad and ``on_bad_files`` is ``error``, or there is no passage.
    """
    passages: list[Passage] = []
    for path in progress(find_files(folder), unit="file"):
        try:
            passages += read_passages(path, folder, min_chars, max_chars)
        except InputError as error:
            if on_bad_files == "error":
                raise InputError(f"{error}; or leave it out with --on_bad_files skip") from None
            print(f"left out: {printable(str(error), 300)}", file=sys.stderr)
    if not passages:
        raise InputError(f"{folder}: holds no passage of {min_chars} characters or more")
    return passages


def _run(
    endpoint: Endpoint,
    passages: list[Passage],
    n_pairs: int,
    concurrency: int,
    prices: Prices,
    journal: Journal,
) -> None:
    """Asks about the passages that the journal lacks, then writes the pairs of all."""
    client = endpoint.connect()
    left = _not_answered(journal, passages, n_pairs)
    journal.open()
    try:
        with client:
            failed = ask_all(client, endpoint, left, n_pairs, concurrency, journal)
    finally:
        keys = [request_key(passage, n_pairs) for passage in passages]
        n_written = journal.write_output(keys)
        entries = [journal.entries[key] for key in keys if key in journal.entries]
        refused = sum((Counter(entry["refused"]) for entry in entries), Counter[str]())
        tokens_in, tokens_out = (sum(entry[way] for entry in entries) for way in ("in", "out"))
        print(f"{journal.output}: {n_written} pairs of {len(entries)} of {len(passages)} passages")
        if refused:
            reasons = ", ".join(f"{reason} {count}" for reason, count in refused.most_common())
            print(f"refused: {refused.total()} ({reasons})")
        print(f"tokens: {tokens_in:,} in, {tokens_out:,} out")
        if cost := prices.cost(tokens_in, tokens_out):
            print(f"cost: {cost}")
    if failed:
        more = f" and {len(failed) - 3} more" if len(failed) > 3 else ""
        raise RunFailedError(
            f"{len(failed)} passages failed: {'; '.join(failed[:3])}{more}. Run the same command "
            "to ask about them again"
        )
    if not n_written:
        raise RunFailedError("no pair passed the checks; try another model, or longer passages")


def _not_answered(journal: Journal, passages: list[Passage], n_pairs: int) -> list[Passage]:
    return [p for p in passages if request_key(p, n_pairs) not in journal.entries]
