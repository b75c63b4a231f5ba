"""Batch jobs that are handed in: whether they have ended, what they brought, what it cost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vlfilter.errors import VlfilterError
from vlfilter.llm.answers import read_answer
from vlfilter.llm.cache import KEPT, Cache
from vlfilter.llm.jobs import Job, JobStore
from vlfilter.llm.ledger import Charge, Ledger
from vlfilter.llm.prices import NANO, Price, cost_nano
from vlfilter.llm.sending import pause
from vlfilter.llm.types import Answer, Request, Usage
from vlfilter.llm.vendor import RejectedError, Reply, RetryError, Vendor

Io = Callable[[Callable[[], Any]], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class BatchSettings:
    cache: str
    vendor: str
    model: str
    server: str
    price: Price | None
    max_usd: float | None
    attempts: int
    backoff_s: float
    poll_s: float
    concurrency: int


@dataclass(frozen=True, slots=True)
class Collected:
    """How a job stands. `state` is being handed in, under way, collected, or lost; `answers` are in the cache now,
    `left` can only be taken by who asked, such as those whose JSON wants a repair."""

    vendor: str
    model: str
    job: str
    size: int
    state: str
    answers: int = 0
    left: int = 0
    reason: str = ""


class UnreachableError(VlfilterError):
    """All attempts failed, by no fault of the job."""


class Batches:
    """The jobs of one vendor, model and server in one cache."""

    def __init__(self, vendor: Vendor, ledger: Ledger, settings: BatchSettings, io: Io):
        self.vendor, self.ledger, self.settings, self.io = vendor, ledger, settings, io
        self.jobs = JobStore(settings.cache)

    async def collect(self, cache: Cache) -> list[Collected]:
        """Cache the answers of all jobs that have ended, whoever handed them in, without waiting for the others."""
        jobs = await self.io(lambda: self.jobs.all(self.settings.vendor, self.settings.model, self.settings.server))
        return [await self._collect_job(job, cache) for job in jobs]

    async def _collect_job(self, job: Job, cache: Cache) -> Collected:
        about = Collected(job.vendor, job.model, job.id or "", job.size, "being handed in")
        if job.id is None:
            return about
        if job.collected:
            return replace(about, state="collected", left=len(job.requests))
        try:
            if not await self.ended(job):
                return replace(about, state="under way")
            found, costs = await self.harvest(job)
        except RejectedError as error:
            return replace(about, state="lost", reason=error.reason)
        answers = {key: answer for key in job.requests if (answer := _kept(job, key, found.get(key))) is not None}
        for key, answer in answers.items():
            priced = replace(answer, usd=costs.get(key, 0.0))
            await self.io(lambda: cache.put(key, priced))  # noqa: B023
        rest = {key: value for key, value in job.requests.items() if key in found and key not in answers}
        if rest:
            await self.write(replace(job, requests=rest, collected=True))
        else:
            await self.io(lambda: self.jobs.remove(job))
        return replace(about, state="collected", answers=len(answers), left=len(rest))

    async def ended(self, job: Job) -> bool:
        """Raises `RejectedError` where it brought nothing: its record is gone then, and its money counted as spent."""
        return bool(await self._or_drop(job, lambda: self.vendor.ended(job.id or "")))

    async def harvest(self, job: Job) -> tuple[dict[str, Reply | RejectedError], dict[str, float]]:
        """The results of a job that has ended, and what each cost in dollars; the account is settled. Raises as
        `ended`."""
        found: dict[str, Reply | RejectedError] = await self._or_drop(job, lambda: self._results(job.id or ""))
        charges, costs = self._charges(job, found)
        await self.io(lambda: self.ledger.settle(job.ticket, charges))
        return found, costs

    async def _or_drop(self, job: Job, call: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await self.patiently(call)
        except RejectedError:
            # it may have been charged for in part
            await self.drop(job, [Charge({}, job.model, Usage(), job.worst, 0, True)])
            raise

    async def _results(self, number: str) -> dict[str, Reply | RejectedError]:
        return {key: result async for key, result in self.vendor.results(number)}

    def _charges(self, job: Job, found: Mapping[str, Reply | RejectedError]) -> tuple[list[Charge], dict[str, float]]:
        """What the answers cost, summed by labels for the account, and one by one."""
        sums: dict[str, Charge] = {}
        costs: dict[str, float] = {}
        for key, result in found.items():
            if isinstance(result, RejectedError) or key not in job.requests:
                continue
            labels, worst, *_ = job.requests[key]
            nano = worst
            if result.usage is not None:
                nano = cost_nano(self.settings.price, result.usage, batch=True) if self.settings.price else 0
            costs[key] = nano / NANO
            name = json.dumps(labels, sort_keys=True)
            old = sums.get(name) or Charge(labels, job.model, Usage(), 0, 0, True)
            usage = old.usage + (result.usage or Usage())
            sums[name] = replace(old, usage=usage, nano=old.nano + nano, requests=old.requests + 1)
        return list(sums.values()), costs

    async def patiently(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Retries as for single questions; afterwards the job waits at the vendor for the next run."""
        for attempt in range(self.settings.attempts):
            try:
                return await call()
            except RetryError as error:
                reason, after = error.reason, error.after
            if attempt + 1 < self.settings.attempts:
                await asyncio.sleep(pause(attempt, after, self.settings.backoff_s))
        raise UnreachableError(f"the vendor's batch endpoint: {reason}. Jobs that were handed in are kept: run again.")

    async def write(self, job: Job) -> Job:
        await self.io(lambda: self.jobs.write(job))
        return job

    async def drop(self, job: Job, charges: Sequence[Charge]) -> None:
        await self.io(lambda: self.ledger.settle(job.ticket, charges))
        await self.io(lambda: self.jobs.remove(job))


def _kept(job: Job, key: str, result: Reply | RejectedError | None) -> Answer | None:
    """The answer, if it is one that the cache keeps and that needs no second question."""
    if not isinstance(result, Reply):
        return None
    _, _, kind = job.requests[key]
    max_tokens, schema = job.kinds[kind]
    answer, _ = read_answer(Request("", schema=schema, max_tokens=max_tokens), result)
    return answer if answer.outcome in KEPT else None
