"""The dry run: what a set of questions would take, without asking one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from vlfilter.llm.prices import AS_OF, NANO, Price, cost_nano
from vlfilter.llm.tokens import input_tokens
from vlfilter.llm.types import Answer, Request, Usage


@dataclass(frozen=True, slots=True)
class Estimate:
    """`cached` are answered already, `repeated` equal another one of the set, `to_send` would be paid for.

    Tokens and dollars are of `to_send`; input is estimated, output lies between nothing and `max_tokens` each, so the
    price lies between `usd_least` and `usd_most`. Both are None where the model's price is not known. Repairs and
    retries come on top.
    """

    requests: int
    cached: int
    repeated: int
    to_send: int
    input_tokens: int
    max_output_tokens: int
    usd_least: float | None
    usd_most: float | None

    def __str__(self) -> str:
        money = "price not known: set input_usd_per_million and output_usd_per_million"
        if self.usd_least is not None and self.usd_most is not None:
            money = f"${self.usd_least:,.4f} to ${self.usd_most:,.4f} (prices of {AS_OF}, or yours)"
        return (
            f"{self.requests} questions: {self.cached} answered in the cache, {self.repeated} repeated, {self.to_send} "
            f"to send; about {self.input_tokens} tokens in, at most {self.max_output_tokens} out; {money}"
        )


def estimate(
    requests: Iterable[Request],
    key: Callable[[Request], str],
    cached: Callable[[Request], Answer | None],
    model: str,
    price: Price | None,
    batch: bool,
) -> Estimate:
    """Sum up requests one by one; only their keys are kept in memory."""
    seen: set[str] = set()
    count = hits = repeated = tokens_in = tokens_out = least = most = 0
    for request in requests:
        count += 1
        digest = key(request)
        if digest in seen:
            repeated += 1
            continue
        seen.add(digest)
        if cached(request) is not None:
            hits += 1
            continue
        tokens = input_tokens(request, model)
        tokens_in += tokens
        tokens_out += request.max_tokens
        if price is not None:
            least += cost_nano(price, Usage(tokens), batch)
            most += cost_nano(price, Usage(tokens, request.max_tokens), batch)
    usd = (least / NANO, most / NANO) if price is not None else (None, None)
    return Estimate(count, hits, repeated, count - hits - repeated, tokens_in, tokens_out, *usd)
