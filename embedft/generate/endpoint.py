"""The endpoint that is asked: its settings, its client and its errors."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from embedft.errors import InputError
from embedft.generate.pairs import SCHEMA
from embedft.tools.text import printable, without_secrets

if TYPE_CHECKING:
    from openai import OpenAI

OPENAI_URL = "https://api.openai.com/v1"

RESPONSE_FORMATS: dict[str, dict[str, Any]] = {
    "text": {},
    "json_object": {"response_format": {"type": "json_object"}},
    "json_schema": {"response_format": {"type": "json_schema", "json_schema": SCHEMA}},
}


def read_key(key: str | None) -> str | None:
    """A key without white space around it, which a file with Windows line ends leaves.

    Raises:
        InputError: It holds characters that can't be sent. The message does not show it.
    """
    key = (key or "").strip()
    if not (key.isascii() and key.isprintable()):
        raise InputError(
            "api_key: has characters that no key has, such as a line end; check OPENAI_API_KEY"
        )
    return key or None


class RateLimit:
    """Delays requests so that at most N are sent per minute, repeated ones included."""

    def __init__(self, requests_per_minute: float) -> None:
        self._seconds_between = 60 / requests_per_minute
        self._next_time = 0.0
        self._lock = threading.Lock()

    def wait(self, request: object) -> None:
        """Returns when the next request may be sent."""
        with self._lock:
            send_time = max(time.monotonic(), self._next_time)
            self._next_time = send_time + self._seconds_between
        time.sleep(max(send_time - time.monotonic(), 0))


@dataclass(frozen=True)
class Endpoint:
    """A server that speaks OpenAI's chat completions, and how it is asked.

    Attributes:
        model: The model's name on the server.
        base_url: Ends with ``/v1``; None is OpenAI's own.
        api_key: Sent with each request, printed nowhere.
        response_format: A key of :data:`RESPONSE_FORMATS`.
        requests_per_minute: 0 is no limit.
        timeout: Seconds without a byte.
        max_retries: Of one request.
    """

    model: str | None
    base_url: str | None
    api_key: str | None = field(repr=False)
    response_format: str
    requests_per_minute: float
    timeout: float
    max_retries: int

    @property
    def url(self) -> str:
        """The address that requests go to, without user and password."""
        return without_secrets(self.base_url or OPENAI_URL)

    def connect(self) -> OpenAI:
        """A client that repeats a request after 408, 409, 429, 5xx, time-outs and lost connections.

        It waits for as long as ``Retry-After`` says; without that header, longer each time.

        Raises:
            InputError: A setting is missing or wrong, or the openai package is not installed.
        """
        try:
            from openai import DefaultHttpxClient, OpenAI
        except ImportError:
            raise InputError(
                "the openai package is not installed; type: pip install 'embedft[generate]'"
            ) from None
        if not self.model:
            raise InputError("model: give --model, or set OPENAI_MODEL")
        if not self.api_key and not self.base_url:
            raise InputError(
                "api_key: set OPENAI_API_KEY; for a server of your own give --base_url, "
                "for example http://localhost:8000/v1"
            )
        if self.base_url and not re.match(r"https?://[^/\s]", self.base_url):
            raise InputError(f"base_url: is {self.url}, must begin with http:// or https://")
        hooks = {}
        if self.requests_per_minute:
            hooks = {"request": [RateLimit(self.requests_per_minute).wait]}
        return OpenAI(
            api_key=self.api_key or "none",
            base_url=self.base_url,
            timeout=self.timeout,
            max_retries=self.max_retries,
            http_client=DefaultHttpxClient(event_hooks=hooks),
        )

    def one_line(self, error: BaseException) -> str:
        """An error in one line, without the key, which some servers repeat."""
        text = " ".join(str(error).split()) or type(error).__name__
        if cause := error.__cause__:
            text += f" ({' '.join(str(cause).split()) or type(cause).__name__})"
        return printable(without_secrets(text, self.api_key), 300)
