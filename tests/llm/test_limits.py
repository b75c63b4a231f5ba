"""The local limiter and the pauses, on a clock of their own."""

from __future__ import annotations

import asyncio

import pytest

from vlfilter.llm.limits import LocalLimiter
from vlfilter.llm.sending import LONGEST_PAUSE, pause
from vlfilter.llm.vendor import retry_after


class Clock:
    """Time that passes only where somebody sleeps; `let_out` is when each request went out."""

    def __init__(self) -> None:
        self.now = 0.0
        self.let_out: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.let_out.append(self.now + seconds)

    def run(self, limiter: LocalLimiter, tokens: list[int]) -> list[float]:
        async def all_at_once() -> None:
            for amount in tokens:
                before = len(self.let_out)
                await limiter.acquire(amount)
                if len(self.let_out) == before:
                    self.let_out.append(self.now)

        asyncio.run(all_at_once())
        return self.let_out


def most_in_a_minute(times: list[float], amounts: list[int]) -> float:
    return max(sum(a for t, a in zip(times, amounts, strict=True) if start <= t < start + 60) for start in times)


def test_requests_a_minute() -> None:
    clock = Clock()
    times = clock.run(LocalLimiter(120, None, lambda: clock.now, clock.sleep), [0] * 400)
    assert most_in_a_minute(times, [1] * 400) <= 122
    assert times[-1] == pytest.approx(398 / 2)  # no slower than it must be


def test_tokens_a_minute() -> None:
    clock = Clock()
    amounts = [100, 900, 5000, 50] * 50
    times = clock.run(LocalLimiter(None, 60_000, lambda: clock.now, clock.sleep), amounts)
    assert times == sorted(times)
    assert most_in_a_minute(times, amounts) <= 60_000 + 2 * 5000
    assert times[-1] <= sum(amounts) / 1000


def test_a_request_larger_than_the_limit_goes_out() -> None:
    clock = Clock()
    times = clock.run(LocalLimiter(None, 600, lambda: clock.now, clock.sleep), [6000, 1])
    assert times[0] == 0
    assert times[1] == pytest.approx(599.1, abs=1)


def test_no_limits_let_everything_out() -> None:
    clock = Clock()
    assert clock.run(LocalLimiter(None, None, lambda: clock.now, clock.sleep), [10**9] * 5) == [0.0] * 5


def test_unused_time_is_not_saved_up() -> None:
    clock = Clock()
    limiter = LocalLimiter(60, None, lambda: clock.now, clock.sleep)
    clock.now = 3600.0
    assert clock.run(limiter, [0] * 4) == pytest.approx([3600.0, 3601.0, 3602.0, 3603.0])


def test_pauses_are_spread_and_bounded() -> None:
    for attempt in range(12):
        pauses = [pause(attempt, None, 1.0) for _ in range(400)]
        ceiling = min(2.0 * 2**attempt, LONGEST_PAUSE)
        assert min(pauses) < 0.2 * ceiling
        assert 0.8 * ceiling < max(pauses) <= ceiling
    assert all(30.0 <= pause(3, 30.0, 1.0) <= 32.0 for _ in range(100))


def test_retry_after() -> None:
    assert retry_after({}) is None
    assert retry_after({"retry-after": "7"}) == 7
    assert retry_after({"retry-after": "1.5"}) == 1.5
    assert retry_after({"retry-after-ms": "250", "retry-after": "7"}) == 0.25
    assert retry_after({"retry-after": "-3"}) == 0
    assert retry_after({"retry-after": "Sat, 01 Jan 2000 00:00:00 GMT"}) == 0
    assert (retry_after({"retry-after": "Fri, 01 Jan 2100 00:00:00 GMT"}) or 0) > 10**9
    assert retry_after({"retry-after": "soon"}) is None
