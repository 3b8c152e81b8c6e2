"""What a run would ask and cost, before anything is sent."""

from __future__ import annotations

from typing import NamedTuple

from embedft.errors import InputError
from embedft.generate.endpoint import Endpoint
from embedft.generate.pairs import messages
from embedft.generate.passages import Passage
from embedft.tools.progress import progress

TOKENS_PER_PAIR = 80  # in a reply
BYTES_PER_TOKEN = 4  # of UTF-8; used without --tokenizer
TOKENS_PER_REQUEST = 12  # which a chat template adds


class Prices(NamedTuple):
    """Prices of a million tokens, in any currency; None if not known."""

    input: float | None
    output: float | None

    def cost(self, tokens_in: int, tokens_out: int) -> str | None:
        """The price of these tokens as text; None without both prices."""
        if self.input is None or self.output is None:
            return None
        return f"{(tokens_in * self.input + tokens_out * self.output) / 1e6:,.4f}"


def estimate(
    endpoint: Endpoint,
    passages: list[Passage],
    left: list[Passage],
    n_pairs: int,
    prices: Prices,
    tokenizer: str | None,
) -> str:
    """The lines that ``--dry_run`` prints.

    Args:
        endpoint: Where the requests would go.
        passages: All passages.
        left: Those that are not answered yet.
        n_pairs: Pairs asked for per passage.
        prices: For the cost.
        tokenizer: Hub id or folder of a tokenizer that counts; None estimates from bytes.

    Raises:
        InputError: The tokenizer can't be loaded.
    """
    texts = ["".join(m["content"] for m in messages(passage, n_pairs)) for passage in left]
    if tokenizer:
        counts = _count_tokens(texts, tokenizer, endpoint)
        how = f"by the tokenizer of {tokenizer}"
    else:
        counts = [len(text.encode()) // BYTES_PER_TOKEN for text in texts]
        how = f"at {BYTES_PER_TOKEN} bytes a token; --tokenizer counts"
    tokens_in = sum(counts) + TOKENS_PER_REQUEST * len(left)
    tokens_out = len(left) * n_pairs * TOKENS_PER_PAIR
    cost = prices.cost(tokens_in, tokens_out)
    lines = [
        f"read:     {len({p.file_name for p in passages})} files, {len(passages)} passages, "
        f"{len(passages) - len(left)} of them answered already",
        f"requests: {len(left)} to {endpoint.url}, model {endpoint.model or '(none given)'}",
        f"tokens:   about {tokens_in:,} in ({how}), {tokens_out:,} out ({TOKENS_PER_PAIR} a pair)",
        f"pairs:    up to {len(left) * n_pairs:,}",
        f"cost:     {cost or 'give --input_price and --output_price, each for a million tokens'}",
    ]
    if endpoint.requests_per_minute:
        lines.append(f"time:     {len(left) / endpoint.requests_per_minute:.0f} minutes at least")
    return "\n".join(lines)


def _count_tokens(texts: list[str], name: str, endpoint: Endpoint) -> list[int]:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise InputError(f"tokenizer: {endpoint.one_line(error)}") from None
    return [len(tokenizer.tokenize(text)) for text in progress(texts)]
