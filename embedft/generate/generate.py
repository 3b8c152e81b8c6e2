"""Make question/answer pairs from a folder of texts, by any OpenAI-compatible endpoint.

    export OPENAI_BASE_URL=http://localhost:8000/v1 OPENAI_MODEL=... OPENAI_API_KEY=...
    python scripts/generate_qa.py --input_dir papers --output_jsonl pairs.jsonl --dry_run
    python scripts/generate_qa.py --input_dir papers --output_jsonl pairs.jsonl

A flag wins over the environment. Stopped or killed, the same command goes on where it was.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from tqdm import tqdm

from embedft.errors import EmbedftError, InputError, RunFailedError
from embedft.generate.journal import Journal
from embedft.generate.pairs import SCHEMA, good_pairs, messages, read_reply
from embedft.generate.passages import SUFFIXES, Passage, find_files, read_passages

if TYPE_CHECKING:
    from openai import OpenAI

OPENAI = "https://api.openai.com/v1"
ATTEMPTS = 3  # at a reply that can be read
FAILURES = 5  # passages in a row, after which it is not the passages
TOKENS_PER_PAIR = 80  # of a reply, for the estimate
BYTES_PER_TOKEN = 4  # of UTF-8, for the estimate without a tokenizer
TOKENS_PER_REQUEST = 12  # what a chat template adds

FORMATS: dict[str, dict[str, Any]] = {
    "text": {},
    "json_object": {"response_format": {"type": "json_object"}},
    "json_schema": {"response_format": {"type": "json_schema", "json_schema": SCHEMA}},
}


class Pace:
    """Holds requests back so that no more than so many are sent a minute, retries too."""

    def __init__(self, requests_per_minute: float) -> None:
        self._gap = 60 / requests_per_minute
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self, request: object) -> None:
        """Returns when the next request may go out."""
        with self._lock:
            at = max(time.monotonic(), self._next)
            self._next = at + self._gap
        time.sleep(max(at - time.monotonic(), 0))


def connect(args: argparse.Namespace) -> OpenAI:
    """A client that repeats 408, 409, 429, 5xx, time-outs and dropped connections.

    It waits as long as ``Retry-After`` says, else longer each time.
    """
    try:
        from openai import DefaultHttpxClient, OpenAI
    except ImportError:
        raise InputError(
            "the openai package is not installed; type: pip install 'embedft[generate]'"
        ) from None
    if not args.model:
        raise InputError("model: give --model, or set OPENAI_MODEL")
    if not args.api_key and not args.base_url:
        raise InputError(
            "api_key: set OPENAI_API_KEY; for a server of your own give --base_url, "
            "http://localhost:8000/v1 for example"
        )
    if args.base_url and not re.match(r"https?://[^/\s]", args.base_url):
        raise InputError(f"base_url: is {args.base_url}, must begin with http:// or https://")
    hooks = {}
    if args.requests_per_minute:
        hooks = {"request": [Pace(args.requests_per_minute).wait]}
    return OpenAI(
        api_key=args.api_key or "none",
        base_url=args.base_url,
        timeout=args.timeout,
        max_retries=args.max_retries,
        http_client=DefaultHttpxClient(event_hooks=hooks),
    )


def ask(client: OpenAI, args: argparse.Namespace, passage: Passage) -> dict[str, Any]:
    """The journal's entry of one passage.

    Raises:
        ValueError: No reply could be read.
        openai.OpenAIError: No reply came.
    """
    tokens: Counter[str] = Counter()
    for attempt in range(ATTEMPTS):
        try:
            reply: Any = client.chat.completions.create(
                model=args.model,
                messages=messages(passage, args.pairs_per_passage),  # type: ignore[arg-type]
                **FORMATS[args.response_format],
            )
            if not getattr(reply, "choices", None):
                raise ValueError("the endpoint's answer is no chat completion")
            if reply.usage is not None:
                tokens["in"] += reply.usage.prompt_tokens
                tokens["out"] += reply.usage.completion_tokens
            pairs, refused = good_pairs(read_reply(reply.choices[0].message.content or ""), passage)
            break
        except ValueError:
            if attempt == ATTEMPTS - 1:
                raise
    rows = [
        {
            "id": f"{passage.id}q{number}",
            **pair,
            "context": passage.text,
            "file_name": passage.file_name,
        }
        for number, pair in enumerate(pairs, 1)
    ]
    entry = {"rows": rows, "refused": refused}
    return {"key": key_of(passage, args), **entry, "in": tokens["in"], "out": tokens["out"]}


def key_of(passage: Passage, args: argparse.Namespace) -> str:
    """Names what is asked: another text or another number of pairs is asked anew."""
    asked = json.dumps([passage.id, messages(passage, args.pairs_per_passage)])
    return hashlib.sha256(asked.encode()).hexdigest()[:32]


def one_line(error: BaseException, args: argparse.Namespace) -> str:
    """An error in one line, without the key, which some servers repeat."""
    text = " ".join(str(error).split()) or type(error).__name__
    if cause := error.__cause__:
        text += f" ({' '.join(str(cause).split()) or type(cause).__name__})"
    return (text.replace(args.api_key, "***") if args.api_key else text)[:300]


def generate(
    client: OpenAI, args: argparse.Namespace, passages: list[Passage], journal: Journal
) -> list[str]:
    """Asks about passages, several at a time; returns a line for each that failed.

    Raises:
        RunFailedError: The endpoint refuses, or has failed several times in a row.
    """
    from openai import (
        APIConnectionError,
        AuthenticationError,
        NotFoundError,
        PermissionDeniedError,
    )

    waiting: SimpleQueue[Passage | None] = SimpleQueue()
    done: SimpleQueue[tuple[Passage, dict[str, Any] | Exception]] = SimpleQueue()
    for passage in passages:
        waiting.put(passage)

    ended = threading.Event()

    def work() -> None:
        while not ended.is_set() and (passage := waiting.get()) is not None:
            try:
                done.put((passage, ask(client, args, passage)))
            except Exception as error:
                done.put((passage, error))

    # Daemons: Ctrl-C does not wait for an answer.
    threads = [threading.Thread(target=work, daemon=True) for _ in range(args.concurrency)]
    for thread in threads:
        waiting.put(None)
        thread.start()
    failed: list[str] = []
    in_a_row = 0
    try:
        with tqdm(total=len(passages), unit="passage", disable=None) as bar:
            for _ in passages:
                passage, result = done.get()
                bar.update()
                if isinstance(result, dict):
                    journal.append(result)
                    in_a_row = 0
                    continue
                reason = one_line(result, args)
                if isinstance(result, AuthenticationError | PermissionDeniedError | NotFoundError):
                    raise RunFailedError(f"{reason}; check base URL, model and key")
                if not isinstance(result, ValueError) and "response_format" in reason:
                    raise RunFailedError(f"{reason}; try --response_format json_schema, or text")
                if isinstance(result, APIConnectionError) and not journal.entries:
                    raise RunFailedError(f"{args.base_url or OPENAI}: {reason}; is the server up?")
                failed.append(f"{passage.id}: {reason}")
                in_a_row += 1
                if in_a_row == FAILURES:
                    raise RunFailedError(
                        f"{FAILURES} passages failed in a row, the last for this: {reason}; "
                        "what was answered is kept: the same command goes on"
                    )
    except RunFailedError:
        ended.set()
        for thread in threads:
            thread.join()
        while not done.empty():  # answers that were on their way are paid for too
            if isinstance(result := done.get()[1], dict):
                journal.append(result)
        raise
    return failed


def estimate(args: argparse.Namespace, passages: list[Passage], left: list[Passage]) -> str:
    """What a run would ask and cost, in words."""
    texts = ["".join(m["content"] for m in messages(p, args.pairs_per_passage)) for p in left]
    if args.tokenizer:
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(args.tokenizer)
        except (OSError, ValueError) as error:
            raise InputError(f"tokenizer: {one_line(error, args)}") from None
        counts = [len(tokenizer.tokenize(text)) for text in tqdm(texts, disable=None)]
        how = f"by the tokenizer of {args.tokenizer}"
    else:
        counts = [len(text.encode()) // BYTES_PER_TOKEN for text in texts]
        how = f"at {BYTES_PER_TOKEN} bytes a token; --tokenizer counts"
    tokens_in = sum(counts) + TOKENS_PER_REQUEST * len(left)
    tokens_out = len(left) * args.pairs_per_passage * TOKENS_PER_PAIR
    lines = [
        f"read:     {len({p.file_name for p in passages})} files, {len(passages)} passages, "
        f"{len(passages) - len(left)} of them answered already",
        f"requests: {len(left)} to {args.base_url or OPENAI}, model {args.model or '(none given)'}",
        f"tokens:   about {tokens_in:,} in ({how}), {tokens_out:,} out ({TOKENS_PER_PAIR} a pair)",
        f"pairs:    up to {len(left) * args.pairs_per_passage:,}",
        f"cost:     {cost(args, tokens_in, tokens_out)}",
    ]
    if args.requests_per_minute:
        lines.append(f"time:     {len(left) / args.requests_per_minute:.0f} minutes at least")
    return "\n".join(lines)


def cost(args: argparse.Namespace, tokens_in: int, tokens_out: int) -> str:
    """Tokens in money, where the prices are known."""
    if args.input_price is None or args.output_price is None:
        return "give --input_price and --output_price, each for a million tokens"
    return f"{(tokens_in * args.input_price + tokens_out * args.output_price) / 1e6:,.4f}"


def read_folder(args: argparse.Namespace) -> list[Passage]:
    """The passages of all files, or an even choice of ``--max_passages`` of them.

    Raises:
        InputError: A file is bad under ``--on_bad_files error``, or there is no passage.
    """
    folder = Path(args.input_dir)
    passages: list[Passage] = []
    for path in tqdm(find_files(folder), unit="file", disable=None, leave=False):
        try:
            passages += read_passages(path, folder, args.min_chars, args.max_chars)
        except InputError as error:
            if args.on_bad_files == "error":
                raise InputError(f"{error}; or leave it out with --on_bad_files skip") from None
            print(f"left out: {error}", file=sys.stderr)
    if not passages:
        raise InputError(f"{folder}: holds no passage of {args.min_chars} characters or more")
    count = min(args.max_passages or len(passages), len(passages))
    return [passages[at * len(passages) // count] for at in range(count)]


def run(args: argparse.Namespace) -> None:
    """Reads, asks what is not answered yet, writes the pairs.

    Raises:
        EmbedftError: Something given is wrong, or passages failed.
    """
    passages = read_folder(args)
    journal = Journal(Path(args.output_jsonl), args.overwrite)
    keys = [key_of(passage, args) for passage in passages]
    left = [p for p, key in zip(passages, keys, strict=True) if key not in journal.entries]
    if args.dry_run:
        print(estimate(args, passages, left))
        return
    client = connect(args)
    journal.open()
    try:
        with client:
            failed = generate(client, args, left, journal)
    finally:
        pairs = journal.write_output(keys)
        entries = [journal.entries[key] for key in keys if key in journal.entries]
        refused = sum((Counter(entry["refused"]) for entry in entries), Counter[str]())
        tokens_in, tokens_out = (sum(entry[way] for entry in entries) for way in ("in", "out"))
        print(f"{journal.output}: {pairs} pairs of {len(entries)} of {len(passages)} passages")
        if refused:
            reasons = ", ".join(f"{reason} {count}" for reason, count in refused.most_common())
            print(f"refused: {refused.total()} ({reasons})")
        print(f"tokens: {tokens_in:,} in, {tokens_out:,} out")
        if args.input_price is not None and args.output_price is not None:
            print(f"cost: {cost(args, tokens_in, tokens_out)}")
    if failed:
        more = f" and {len(failed) - 3} more" if len(failed) > 3 else ""
        raise RunFailedError(
            f"{len(failed)} passages failed: {'; '.join(failed[:3])}{more}; the same command asks "
            "about them again"
        )
    if not pairs:
        raise RunFailedError("no pair was good; try another model, or longer passages")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line, completed by the environment."""

    def at_least(least: int) -> Any:
        def number(text: str) -> int:
            if (value := int(text)) < least:
                raise argparse.ArgumentTypeError(f"is {value}, must be at least {least}")
            return value

        return number

    def positive(text: str) -> float:
        if not 0 <= (value := float(text)) < float("inf"):
            raise argparse.ArgumentTypeError(f"is {text}, must be 0 or more")
        return value

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--input_dir", metavar="FOLDER", required=True, help=f"{', '.join(SUFFIXES)} (TEI) files")
    add("--output_jsonl", metavar="FILE", required=True, help="the pairs; FILE.journal beside it")
    add("--dry_run", action="store_true", help="ask nothing, say what it would cost")
    add(
        "--base_url",
        metavar="URL",
        default=os.environ.get("OPENAI_BASE_URL") or None,
        help="ends with /v1 (default: OPENAI_BASE_URL, else OpenAI's own)",
    )
    add(
        "--model",
        metavar="NAME",
        default=os.environ.get("OPENAI_MODEL"),
        help="as the endpoint calls it (default: OPENAI_MODEL)",
    )
    add("--api_key", metavar="KEY", help="better in OPENAI_API_KEY: others see a command line")
    add = parser.add_argument_group("what is asked").add_argument
    add("--pairs_per_passage", metavar="N", type=at_least(1), default=3, help="default 3")
    add("--max_chars", metavar="N", type=at_least(100), default=1200, help="of a passage; 1200")
    add("--min_chars", metavar="N", type=at_least(1), default=200, help="shorter is left out; 200")
    add("--max_passages", metavar="N", type=at_least(1), help="an even choice of them, for a try")
    add("--on_bad_files", choices=("error", "skip"), default="error", help="default error")
    add("--overwrite", action="store_true", help="begin anew: ask about everything again")
    add = parser.add_argument_group("how it is asked").add_argument
    add("--requests_per_minute", metavar="N", type=positive, default=0, help="0, default: no limit")
    add("--concurrency", metavar="N", type=at_least(1), default=4, help="requests at a time; 4")
    add("--timeout", metavar="SECONDS", type=positive, default=120, help="without a byte; 120")
    add("--max_retries", metavar="N", type=at_least(0), default=6, help="of a request; 6")
    add(
        "--response_format",
        choices=list(FORMATS),
        default="json_object",
        help="what the endpoint is told; default json_object, text is what all understand",
    )
    add = parser.add_argument_group("what it costs").add_argument
    add("--input_price", metavar="PRICE", type=positive, help="of a million tokens")
    add("--output_price", metavar="PRICE", type=positive, help="of a million tokens")
    add("--tokenizer", metavar="NAME", help="hub id or folder, by which --dry_run counts tokens")
    args = parser.parse_args(arguments)
    args.api_key = args.api_key or os.environ.get("OPENAI_API_KEY")
    if args.min_chars > args.max_chars:
        parser.error("--min_chars is larger than --max_chars")
    return args


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line; what goes wrong ends with one line."""
    args = parse(arguments)
    lock = Path(f"{args.output_jsonl}.lock")
    try:
        if args.dry_run:
            run(args)
            return
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock, timeout=0):
            try:
                run(args)
            finally:
                lock.unlink(missing_ok=True)
    except Timeout:
        sys.exit(f"generate_qa: error: {args.output_jsonl}: another run is writing it")
    except EmbedftError as error:
        print(f"generate_qa: error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    except OSError as error:
        sys.exit(f"generate_qa: error: {error}")
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


if __name__ == "__main__":
    main()
