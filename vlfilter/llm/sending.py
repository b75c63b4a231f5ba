"""One request until it has an answer: budget, rate limit, attempts with jitter, account."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from vlfilter.llm.ledger import BudgetExceededError, Charge, Ledger
from vlfilter.llm.limits import Limiter
from vlfilter.llm.prices import NANO, Price, cost_nano, worst_nano
from vlfilter.llm.tokens import input_tokens, most_input_tokens
from vlfilter.llm.types import Answer, Outcome, Request, Usage
from vlfilter.llm.vendor import RejectedError, Repair, Reply, RetryError, Vendor

LONGEST_PAUSE = 60.0
LONGEST_WAIT = 600.0  # a server that wants more than this has no answer for us today


class Halt:
    """Tells all workers of a run that nothing more is to be sent, and why."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self._stopped = asyncio.Event()

    def stop(self, error: Exception) -> None:
        self.error = self.error or error
        self._stopped.set()

    async def sleep(self, seconds: float) -> None:
        """Sleep, but not past the end of the run."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), seconds)

    def check(self) -> None:
        if self.error is not None:
            raise self.error


@dataclass(frozen=True, slots=True)
class Sent:
    reply: Reply
    usd: float


class Limits(Protocol):
    """What of the judge's settings matters here."""

    @property
    def max_usd(self) -> float | None: ...
    @property
    def concurrency(self) -> int: ...
    @property
    def timeout_s(self) -> float: ...
    @property
    def attempts(self) -> int: ...
    @property
    def backoff_s(self) -> float: ...


class Sender:
    """Lives on one event loop."""

    def __init__(
        self,
        vendor: Vendor,
        ledger: Ledger,
        limiter: Limiter,
        price: Price | None,
        limits: Limits,
        model: str,
        io: Callable[[Callable[[], Any]], Awaitable[Any]],
    ):
        self.vendor = vendor
        self._ledger, self._limiter, self._price, self._limits, self._model = ledger, limiter, price, limits, model
        self._io = io
        self._room = asyncio.Semaphore(limits.concurrency)
        self._under_way = 0
        self._settlements = 0
        self._stretch = 1.0  # how much more input the server has counted than the bound says; 1 where the bound holds
        self._settled = asyncio.Condition()

    async def send(self, request: Request, halt: Halt, repair: Repair | None = None) -> Sent | Answer:
        """The reply and its cost, or the answer REFUSED or FAILED. Raises what concerns every request."""
        async with self._room:
            usd = 0.0
            for attempt in range(self._limits.attempts):
                try:
                    reply, cost = await self._attempt(request, halt, repair)
                    return Sent(reply, usd + cost)
                except RejectedError as error:
                    outcome = Outcome.REFUSED if error.refused else Outcome.FAILED
                    return Answer(outcome, reason=error.reason, usd=usd)
                except _FailedAttemptError as error:
                    usd += error.usd
                    reason, after = error.reason, error.after
                last = attempt + 1 == self._limits.attempts
                if last or (after or 0.0) > LONGEST_WAIT:
                    break
                await halt.sleep(pause(attempt, after, self._limits.backoff_s))
            tries = "attempt" if attempt == 0 else "attempts"
            waits = f"; the server asks for a pause of {after:.0f} s" if (after or 0.0) > LONGEST_WAIT else ""
            return Answer(Outcome.FAILED, reason=f"{reason} (after {attempt + 1} {tries}{waits})", usd=usd)

    async def _attempt(self, request: Request, halt: Halt, repair: Repair | None) -> tuple[Reply, float]:
        said = repair.said + repair.prompt if repair else ""
        await self._limiter.acquire(input_tokens(request, self._model, said) + request.max_tokens)
        halt.check()
        worst = self._worst(request, said)
        ticket = await self._reserve(worst, request)
        charge: Charge | None = Charge(request.labels, self._model, Usage(), worst)  # unless it turns out otherwise
        failed: _FailedAttemptError | None = None
        try:
            try:
                reply = await asyncio.wait_for(self.vendor.ask(request, repair), self._limits.timeout_s)
                if reply.usage is not None:
                    self._learn(request, said, reply.usage)
                    nano = cost_nano(self._price, reply.usage) if self._price else 0
                    charge = Charge(request.labels, self._model, reply.usage, nano)
            except TimeoutError:
                failed = _FailedAttemptError("no answer in time", None, worst / NANO)
            except RetryError as error:
                charge = charge if error.maybe_paid else None
                failed = _FailedAttemptError(error.reason, error.after, worst / NANO if error.maybe_paid else 0.0)
            except asyncio.CancelledError:
                raise  # it may have been answered: counted as paid
            except BaseException:
                charge = None
                raise
        finally:
            await asyncio.shield(asyncio.ensure_future(self._settle(ticket, charge)))
        if failed is not None:
            raise failed
        return reply, charge.nano / NANO if charge else 0.0

    def _worst(self, request: Request, said: str) -> int:
        if self._price is None:
            return 0
        tokens = math.ceil(most_input_tokens(request, self._model, said) * self._stretch)
        return worst_nano(self._price, tokens, request.max_tokens)

    def _learn(self, request: Request, said: str, usage: Usage) -> None:
        """A server that counts more than any tokenizer could (hidden prompts, other image rules) is believed."""
        self._stretch = max(self._stretch, usage.input_tokens / most_input_tokens(request, self._model, said))

    async def _reserve(self, nano: int, request: Request) -> str:
        """Set aside the worst case; where it does not fit, wait for what our own requests under way give back."""
        limit = None if self._limits.max_usd is None else round(self._limits.max_usd * NANO)
        while True:
            seen = self._settlements
            try:
                ticket: str = await self._io(lambda: self._ledger.reserve(nano, limit, request.labels, self._model))
            except BudgetExceededError:
                if self._under_way == 0 and self._settlements == seen:
                    raise
                async with self._settled:
                    await self._settled.wait_for(lambda: self._settlements != seen or self._under_way == 0)  # noqa: B023
                continue
            self._under_way += 1
            return ticket

    async def _settle(self, ticket: str, charge: Charge | None) -> None:
        try:
            await self._io(lambda: self._ledger.settle(ticket, [charge] if charge else []))
        finally:
            self._under_way -= 1
            self._settlements += 1
            async with self._settled:
                self._settled.notify_all()


class _FailedAttemptError(Exception):
    """An attempt that may be followed by another, and what it may have cost."""

    def __init__(self, reason: str, after: float | None, usd: float):
        super().__init__(reason)
        self.reason, self.after, self.usd = reason, after, usd


def pause(attempt: int, after: float | None, first: float) -> float:
    """Seconds before the next try: full jitter (uniform up to a ceiling that doubles), on top of `Retry-After`."""
    ceiling = min(2 * first * 2**attempt, LONGEST_PAUSE)
    jitter = random.uniform(0, ceiling)  # noqa: S311 - spreads retries, keeps no secret
    return jitter if after is None else after + min(jitter, 2 * first)
