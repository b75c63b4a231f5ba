"""Vendors' list prices as data. They change: `JudgeSettings.input_usd_per_million` and its sister override them.

Looked up on 2026-11-21 in stored copies of the vendors' pages and of third parties' lists, some of them months old.
Where no list told what a vendor takes for input that it caches, 1.25 times the input is assumed. Models whose price was
not found are not here. Check the vendor's page before a large run.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from vlfilter.llm.types import Usage

AS_OF = "2026-11-21"
BATCH_DISCOUNT = 0.5  # both vendors: half price, input and output
NANO = 1_000_000_000  # money is added up in whole billionths of a dollar
_DATED = re.compile(r"-(\d{8}|\d{4}-\d{2}-\d{2}|latest)$")


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens. `cached`: input that the vendor had cached, `write`: input that it caches.

    A prompt of more than `long_from` tokens costs `long_input` and `long_output` times as much, all of it.
    """

    input: float
    output: float
    cached: float | None = None
    write: float | None = None
    long_from: int | None = None
    long_input: float = 1.0
    long_output: float = 1.0


def _gpt(input_usd: float, output_usd: float, cached: float, write: float | None = None) -> Price:
    return Price(input_usd, output_usd, cached, write, 272_000, 2.0, 1.5)


PRICES: dict[str, Price] = {
    "gpt-6-sol": _gpt(2.0, 10.0, 0.2, 2.5),
    "gpt-6-luna": _gpt(0.1, 0.5, 0.01, 0.125),
    "gpt-6-astra": _gpt(10.0, 50.0, 1.0, 12.5),
    "gpt-5.6-sol": _gpt(5.0, 30.0, 0.5, 6.25),
    "gpt-5.6-terra": _gpt(2.0, 12.0, 0.2, 2.5),
    "gpt-5.6-luna": _gpt(0.2, 1.2, 0.02, 0.25),
    "gpt-5.5": _gpt(5.0, 30.0, 0.5),
    "gpt-5.4": _gpt(2.5, 15.0, 0.25),
    "gpt-5.4-mini": Price(0.75, 4.5, 0.075),
    "gpt-5.4-nano": Price(0.2, 1.25, 0.02),
    "gpt-5.1": Price(1.25, 10.0, 0.125),
    "gpt-5": Price(1.25, 10.0, 0.125),
    "gpt-5-mini": Price(0.25, 2.0, 0.025),
    "gpt-5-nano": Price(0.05, 0.4, 0.005),
    "gpt-4.1": Price(2.0, 8.0, 0.5),
    "gpt-4.1-mini": Price(0.4, 1.6, 0.1),
    "gpt-4.1-nano": Price(0.1, 0.4, 0.025),
    "gpt-4o": Price(2.5, 10.0, 1.25),
    "gpt-4o-mini": Price(0.15, 0.6, 0.075),
    "gpt-4-turbo": Price(10.0, 30.0),
    "gpt-4": Price(30.0, 60.0),
    "gpt-3.5-turbo": Price(0.5, 1.5),
    "gpt-3.5-turbo-1106": Price(1.0, 2.0),  # lists disagree on this snapshot: the higher, for the budget's sake
    "o3": Price(2.0, 8.0, 0.5),
    "o4-mini": Price(1.1, 4.4, 0.275),
    "claude-fable-5-1": Price(10.0, 50.0, 1.0, 12.5),
    "claude-opus-5-5": Price(4.0, 20.0, 0.4, 5.0),
    "claude-opus-5": Price(5.0, 25.0, 0.5, 6.25),
    "claude-sonnet-5-5": Price(2.0, 10.0, 0.2, 2.5),
    "claude-sonnet-5": Price(2.0, 10.0, 0.2, 2.5),
    "claude-haiku-5-5": Price(0.1, 0.5, 0.01, 0.125, 100_000, 5.0, 5.0),
    "claude-opus-4-6": Price(5.0, 25.0, 0.5, 6.25),
    "claude-opus-4-5": Price(5.0, 25.0, 0.5, 6.25),
    "claude-sonnet-4-6": Price(3.0, 15.0, 0.3, 3.75),
    "claude-sonnet-4-5": Price(3.0, 15.0, 0.3, 3.75, 200_000, 2.0, 1.5),
    "claude-haiku-4-5": Price(1.0, 5.0, 0.1, 1.25),
}


def known_price(model: str) -> Price | None:
    """The list price of a model, dated names (`gpt-4o-2024-08-06`) by their family; None where it is not known."""
    return PRICES.get(model) or PRICES.get(_DATED.sub("", model))


def cost_nano(price: Price, usage: Usage, batch: bool = False) -> int:
    """Billionths of a dollar, rounded up."""
    long = price.long_from is not None and usage.input_tokens > price.long_from
    cached = price.input if price.cached is None else price.cached
    write = price.input if price.write is None else price.write
    plain = max(usage.input_tokens - usage.cached_input_tokens - usage.cache_write_tokens, 0)
    paid_in = plain * price.input + usage.cached_input_tokens * cached + usage.cache_write_tokens * write
    paid_out = usage.output_tokens * price.output
    usd_micro = paid_in * (price.long_input if long else 1.0) + paid_out * (price.long_output if long else 1.0)
    return math.ceil(round(usd_micro * (BATCH_DISCOUNT if batch else 1.0) * 1000, 6))


def worst_nano(price: Price, input_tokens: int, max_tokens: int, batch: bool = False) -> int:
    """The most that a request can cost: all of its input newly cached, all of its `max_tokens` written."""
    written = input_tokens if (price.write or 0.0) > price.input else 0
    usage = Usage(input_tokens=input_tokens, output_tokens=max_tokens, cache_write_tokens=written)
    return cost_nano(price, usage, batch)
