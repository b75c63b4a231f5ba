"""Requests and tokens a minute: the local limiter; a deployment's shared one lies with its tasks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol


class Limiter(Protocol):
    async def acquire(self, tokens: int) -> None:
        """Return when one request of about so many tokens may go out."""
        ...


class LocalLimiter:
    """Lets requests out evenly, at most `rate` and a second's worth more in any minute; None is no limit.

    A request larger than a second's worth of tokens goes out when none are owed, and the next ones wait for it.
    """

    def __init__(
        self,
        requests_per_minute: int | None,
        tokens_per_minute: int | None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ):
        self._buckets = [
            _Bucket(rate / 60, clock()) if rate else None for rate in (requests_per_minute, tokens_per_minute)
        ]
        self._clock = clock
        self._sleep = sleep

    async def acquire(self, tokens: int) -> None:
        now = self._clock()
        waits = [b.take(n, now) for b, n in zip(self._buckets, (1, tokens), strict=True) if b is not None]
        if waits and max(waits) > 0:
            await self._sleep(max(waits))


class _Bucket:
    """A token bucket that may be overdrawn: each taker gets its turn by how long it has to wait."""

    def __init__(self, rate: float, now: float):
        self._rate = rate
        self._room = max(rate, 1.0)
        self._level = self._room
        self._at = now

    def take(self, amount: float, now: float) -> float:
        """Take now; returns the seconds to wait until what was owed before is paid off."""
        self._level = min(self._level + (now - self._at) * self._rate, self._room)
        self._at = now
        needed = min(amount, self._room)
        wait = max(needed - self._level, 0.0) / self._rate
        self._level -= amount
        return wait
