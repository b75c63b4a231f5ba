"""The vendors' batch endpoints: half the price, answers within a day, and a job that outlives the process.

A job is written down in the cache, under the hash of its questions, before it is submitted, and its id before the first
poll. Whoever asks any of its questions later waits for it and pays nothing twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from vlfilter.errors import VlfilterError
from vlfilter.llm.batches import Batches, UnreachableError
from vlfilter.llm.jobs import Job
from vlfilter.llm.ledger import BudgetExceededError
from vlfilter.llm.prices import NANO, worst_nano
from vlfilter.llm.tokens import most_input_tokens
from vlfilter.llm.types import Answer, Outcome, Request
from vlfilter.llm.vendor import RejectedError, Reply, RetryError

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Open:
    job: Job
    wanted: dict[str, Request] = field(default_factory=dict)


_SUBMITTING: set[str] = set()  # by this process, right now
Finish = Callable[[str, Request, Reply, float], Awaitable[Answer]]
Emit = Callable[[str, Answer], None]


class BatchRun:
    """One call of `ask_all`: adopt what is under way, submit the rest, wait, harvest.

    `finish` validates, repairs and caches an answer; `emit` hands it to the caller.
    """

    def __init__(self, batches: Batches, finish: Finish, emit: Emit):
        self._batches, self._finish, self._emit = batches, finish, emit
        self._vendor, self._ledger, self._set, self._io = batches.vendor, batches.ledger, batches.settings, batches.io
        self._jobs = batches.jobs

    async def run(self, pending: Mapping[str, Request]) -> None:
        """Raises `BudgetExceededError` where the new jobs do not fit: none is submitted, adopted ones are fetched."""
        left = dict(pending)
        jobs = await self._adopt(left)
        refused: BudgetExceededError | None = None
        try:
            jobs += await self._start(left)
        except BudgetExceededError as error:
            refused = error
        following = [asyncio.ensure_future(self._follow(job)) for job in jobs]
        try:
            await asyncio.gather(*following)
        finally:
            for task in following:
                task.cancel()  # where one failed; the others' jobs are adopted by the next run
        if refused is not None:
            raise refused

    async def _adopt(self, left: dict[str, Request]) -> list[_Open]:
        """The open jobs that hold some of the questions, which are taken out of `left`."""
        found = []
        for job in await self._io(lambda: self._jobs.all(self._set.vendor, self._set.model, self._set.server)):
            wanted = {key: left[key] for key in job.requests if key in left}
            if not wanted:
                continue
            handed_in = job if job.id is not None else await self._submitted(job)
            if handed_in is None:
                continue
            for key in wanted:
                del left[key]
            log.info("batch %s holds %d of the questions: waiting for it", handed_in.id, len(wanted))
            found.append(_Open(handed_in, wanted))
        return found

    async def _submitted(self, job: Job) -> Job | None:
        """A job whose id is not written yet: wait for its owner; if that one died, look for the job at the vendor."""
        while job.id is None and job.owner_lives(_SUBMITTING):
            await asyncio.sleep(min(self._set.poll_s, 5.0))
            later = await self._io(lambda: self._jobs.load(job.tag))  # noqa: B023
            if later is None:
                return None
            job = later
        if job.id is not None:
            return job
        number = await self._batches.patiently(lambda: self._find(job))
        if number is None:  # it was never handed in
            await self._batches.drop(job, [])
            return None
        return await self._batches.write(replace(job, id=number))

    async def _find(self, job: Job) -> str | None:
        """A job that the vendor may have, though nobody was told its id."""
        others = await self._io(lambda: self._jobs.all(self._set.vendor, self._set.model, self._set.server))
        known = {other.id for other in others if other.id is not None}
        return await self._vendor.find(job.tag, job.size, job.created, known)

    async def _start(self, left: Mapping[str, Request]) -> list[_Open]:
        """Set the money aside for all new jobs, then hand in one after the other."""
        new = [(await self._io(lambda: self._new_job(group)), group) for group in self._groups(left)]  # noqa: B023
        opened: list[_Open] = []
        reserved: list[Job] = []
        try:
            for job, _ in new:
                await self._reserve(job)
                reserved.append(job)
            for job, group in new:
                opened.append(await self._submit(job, group))
        except Exception:
            for job in reserved:  # an own record stays, and its money with it
                if await self._io(lambda: self._jobs.load(job.tag)) is None:  # noqa: B023
                    await self._io(lambda: self._ledger.settle(job.ticket, []))  # noqa: B023
            raise
        return opened

    async def _reserve(self, job: Job) -> None:
        nano = job.worst
        limit = None if self._set.max_usd is None else round(self._set.max_usd * NANO)
        await self._io(lambda: self._ledger.reserve(nano, limit, {}, job.model, job.ticket))

    def _groups(self, left: Mapping[str, Request]) -> list[dict[str, Request]]:
        """Cut by the vendor's limits: how many, and how many bytes."""
        groups: list[dict[str, Request]] = []
        size = 0
        for key, request in left.items():
            bytes_ = 2000 + 2 * len(request.prompt) + sum(len(image.data) * 4 // 3 for image in request.images)
            full = groups and (len(groups[-1]) >= self._vendor.batch_limit or size + bytes_ > self._vendor.batch_bytes)
            if not groups or full:
                groups.append({})
                size = 0
            groups[-1][key] = request
            size += bytes_
        return groups

    def _new_job(self, group: Mapping[str, Request]) -> Job:
        tag = hashlib.sha256("\n".join(sorted(group)).encode()).hexdigest()
        kinds: list[Any] = []
        requests = {}
        for key, request in group.items():
            kind = [request.max_tokens, request.schema]
            if kind not in kinds:
                kinds.append(kind)
            requests[key] = [dict(request.labels), self._worst(request), kinds.index(kind)]
        owner = (time.time(), socket.gethostname(), os.getpid())
        return Job(tag, self._set.vendor, self._set.model, self._set.server, *owner, len(group), requests, kinds=kinds)

    def _worst(self, request: Request) -> int:
        if self._set.price is None:
            return 0
        tokens = most_input_tokens(request, self._set.model)
        return worst_nano(self._set.price, tokens, request.max_tokens, batch=True)

    async def _submit(self, job: Job, group: dict[str, Request]) -> _Open:
        _SUBMITTING.add(job.tag)
        try:
            return await self._hand_in(job, group)
        finally:
            _SUBMITTING.discard(job.tag)

    async def _hand_in(self, job: Job, group: dict[str, Request]) -> _Open:
        first = await self._io(lambda: self._jobs.create(job))
        if not first:  # another process is handing in the very same questions
            there = await self._io(lambda: self._jobs.load(job.tag))
            adopted = await self._submitted(there) if there is not None else None
            if adopted is not None:
                return _Open(adopted, group)
            await self._reserve(job)
            await self._batches.write(job)
        lines = await self._io(lambda: [(key, self._vendor.payload(request)) for key, request in group.items()])

        async def hand_in() -> str:
            try:
                return await self._vendor.submit(lines, job.tag)
            except RetryError as error:  # the vendor may have it, though its answer was lost
                found = await self._find(job) if error.maybe_paid else None
                if found is None:
                    raise
                return found

        try:
            number = await self._batches.patiently(hand_in)
        except RejectedError as error:
            await self._batches.drop(job, [])
            raise VlfilterError(f"the vendor takes no such batch: {error.reason}") from None
        except UnreachableError:
            raise  # the vendor may have it: the next run looks for it
        except VlfilterError:
            await self._batches.drop(job, [])
            raise
        log.info("batch %s of %d questions is handed in", number, len(lines))
        return _Open(await self._batches.write(replace(job, id=number)), group)

    async def _follow(self, opened: _Open) -> None:
        job = opened.job
        try:
            while not await self._batches.ended(job):
                await asyncio.sleep(self._set.poll_s)
            found, costs = await self._batches.harvest(job)
        except RejectedError as error:
            for key in opened.wanted:
                self._emit(key, Answer(Outcome.FAILED, reason=error.reason))
            return
        await self._hand_out(opened, found, costs)
        log.info("batch %s: %d answers", job.id, len(found))
        rest = {key: value for key, value in job.requests.items() if key not in opened.wanted and key in found}
        if rest:  # questions that somebody else asked; their answers wait at the vendor
            await self._batches.write(replace(job, requests=rest))
        else:
            await self._io(lambda: self._jobs.remove(job))

    async def _hand_out(
        self, opened: _Open, found: Mapping[str, Reply | RejectedError], costs: Mapping[str, float]
    ) -> None:
        todo = iter(opened.wanted.items())

        async def work() -> None:
            for key, request in todo:
                result = found.get(key)
                if isinstance(result, Reply):
                    self._emit(key, await self._finish(key, request, result, costs.get(key, 0.0)))
                else:
                    reason = result.reason if result is not None else "the batch brought no answer to this question"
                    refused = result is not None and result.refused
                    self._emit(key, Answer(Outcome.REFUSED if refused else Outcome.FAILED, reason=reason))

        await asyncio.gather(*(work() for _ in range(self._set.concurrency)))
