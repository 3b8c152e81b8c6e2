"""Asks about passages, several at a time, and keeps each answer in the journal."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Callable
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from embedft.errors import RunFailedError
from embedft.generate.endpoint import RESPONSE_FORMATS, Endpoint
from embedft.generate.journal import Journal
from embedft.generate.pairs import good_pairs, messages, read_reply
from embedft.generate.passages import Passage
from embedft.tools.progress import progress

if TYPE_CHECKING:
    from openai import OpenAI

ATTEMPTS = 3  # until a reply can be read
MAX_FAILURES = 5  # in a row; then the endpoint is the cause, not the passages


def request_key(passage: Passage, n_pairs: int) -> str:
    """Identifies a request: another text or another number of pairs has another key."""
    request = json.dumps([passage.id, messages(passage, n_pairs)])
    return hashlib.sha256(request.encode()).hexdigest()[:32]


def ask(client: OpenAI, endpoint: Endpoint, passage: Passage, n_pairs: int) -> dict[str, Any]:
    """Asks for pairs about one passage; returns the journal's entry.

    Raises:
        ValueError: No reply could be read.
        openai.OpenAIError: No reply came.
    """
    tokens: Counter[str] = Counter()
    for attempt in range(ATTEMPTS):
        try:
            reply: Any = client.chat.completions.create(
                model=endpoint.model or "",
                messages=messages(passage, n_pairs),  # type: ignore[arg-type]
                **RESPONSE_FORMATS[endpoint.response_format],
            )
            _count_tokens(tokens, reply)
            pairs, refused = good_pairs(read_reply(_content(reply)), passage)
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
    return {"key": request_key(passage, n_pairs), **entry, "in": tokens["in"], "out": tokens["out"]}


def _content(reply: Any) -> str:
    """The text of a reply; the client checks nothing of what an endpoint sends."""
    try:
        content = reply.choices[0].message.content
    except (AttributeError, IndexError, TypeError, KeyError):
        raise ValueError("the endpoint's answer is no chat completion") from None
    if not isinstance(content, str | None):
        raise ValueError("the endpoint's answer is no text")
    return content or ""


def _count_tokens(tokens: Counter[str], reply: Any) -> None:
    usage = getattr(reply, "usage", None)
    for way, name in (("in", "prompt_tokens"), ("out", "completion_tokens")):
        count = getattr(usage, name, 0)
        tokens[way] += count if type(count) is int and 0 <= count < 2**53 else 0


def ask_all(
    client: OpenAI,
    endpoint: Endpoint,
    passages: list[Passage],
    n_pairs: int,
    concurrency: int,
    journal: Journal,
) -> list[str]:
    """Asks about all passages, ``concurrency`` at a time; returns a line for each that failed.

    Raises:
        RunFailedError: The endpoint refuses, or has failed several times in a row.
    """
    failed: list[str] = []
    in_a_row = 0
    workers = _Workers(lambda passage: ask(client, endpoint, passage, n_pairs), passages)
    workers.start(concurrency)
    try:
        with progress(total=len(passages), unit="passage") as bar:
            for _ in passages:
                passage, result = workers.next_result()
                bar.update()
                if isinstance(result, dict):
                    journal.append(result)
                    in_a_row = 0
                    continue
                reason = endpoint.one_line(result)
                _raise_if_final(result, reason, endpoint, journal)
                failed.append(f"{passage.id}: {reason}")
                in_a_row += 1
                if in_a_row == MAX_FAILURES:
                    raise RunFailedError(
                        f"{MAX_FAILURES} passages failed in a row, the last one with: {reason}. "
                        "The answers so far are kept; run the same command to resume"
                    )
    except RunFailedError:
        for entry in workers.stop():
            journal.append(entry)
        raise
    return failed


def _raise_if_final(error: Exception, reason: str, endpoint: Endpoint, journal: Journal) -> None:
    """Ends the run on an error that every other passage would also meet."""
    from openai import (
        APIConnectionError,
        AuthenticationError,
        NotFoundError,
        PermissionDeniedError,
    )

    if isinstance(error, AuthenticationError | PermissionDeniedError | NotFoundError):
        raise RunFailedError(f"{reason}; check base URL, model and key")
    if not isinstance(error, ValueError) and "response_format" in reason:
        raise RunFailedError(f"{reason}; try --response_format json_schema, or text")
    if isinstance(error, APIConnectionError) and not journal.entries:
        raise RunFailedError(f"{endpoint.url}: {reason}; is the server up?")


class _Workers:
    """Threads that take passages from a queue and put entries or errors into another."""

    def __init__(
        self, ask_one: Callable[[Passage], dict[str, Any]], passages: list[Passage]
    ) -> None:
        self._ask_one = ask_one
        self._waiting: SimpleQueue[Passage | None] = SimpleQueue()
        self._done: SimpleQueue[tuple[Passage, dict[str, Any] | Exception]] = SimpleQueue()
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []
        for passage in passages:
            self._waiting.put(passage)

    def start(self, count: int) -> None:
        # Daemons, so that Ctrl-C does not wait for an answer.
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(count)]
        for thread in self._threads:
            self._waiting.put(None)
            thread.start()

    def _work(self) -> None:
        while not self._stopped.is_set() and (passage := self._waiting.get()) is not None:
            try:
                self._done.put((passage, self._ask_one(passage)))
            except Exception as error:
                self._done.put((passage, error))

    def next_result(self) -> tuple[Passage, dict[str, Any] | Exception]:
        """Waits for the next passage that is answered or has failed."""
        return self._done.get()

    def stop(self) -> list[dict[str, Any]]:
        """Sends no more requests; returns the answers of those under way, which are also paid."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()
        entries = []
        while not self._done.empty():
            if isinstance(result := self._done.get()[1], dict):
                entries.append(result)
        return entries
