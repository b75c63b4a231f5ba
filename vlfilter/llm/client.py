"""The judge: one client over the vendors, with one cache, one budget, one rate limit and one account."""

from __future__ import annotations

import asyncio
import math
import queue
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TypeVar

from vlfilter.errors import VlfilterError
from vlfilter.llm import keys
from vlfilter.llm.answers import check_schema, read_answer
from vlfilter.llm.background import LoopThread
from vlfilter.llm.batch import BatchRun
from vlfilter.llm.batches import Batches, BatchSettings, Collected
from vlfilter.llm.cache import Cache, again, cache_key
from vlfilter.llm.estimate import Estimate, estimate
from vlfilter.llm.ledger import BudgetExceededError, Spent
from vlfilter.llm.limits import Limiter, LocalLimiter
from vlfilter.llm.parts import make_vendor, open_ledger
from vlfilter.llm.prices import Price, known_price
from vlfilter.llm.sending import Halt, Sender
from vlfilter.llm.types import Answer, Request
from vlfilter.llm.vendor import Repair, Reply, Where

__all__ = ["BudgetExceededError", "Judge", "JudgeSettings"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    """Whom to ask, and within which limits. No keys in here: they come from the environment or a Secret block.

    `model` is `openai:NAME` or `anthropic:NAME`; with `base_url` any server that speaks that API. `cache` is a folder
    or an `s3://` prefix; `ledger` a file, or an `s3://` prefix, by default beside the cache. `max_usd` bounds all that
    the ledger has ever recorded. `timeout_s` is for one attempt as a whole, `attempts` counts the first one too,
    `backoff_s` is the mean of the first pause. `batch` sends through the vendor's batch endpoint at half price:
    answers within 24 hours, asked for every `poll_s` seconds.
    """

    model: str
    base_url: str | None = None
    cache: str | None = None
    ledger: str | None = None
    max_usd: float | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int = 16
    timeout_s: float = 120.0
    attempts: int = 6
    backoff_s: float = 1.0
    batch: bool = False
    poll_s: float = 30.0
    input_usd_per_million: float | None = None
    output_usd_per_million: float | None = None


class Judge:
    """Asks questions. Safe for threads; close it, or use it in `with`.

    Raises `VlfilterError` where the settings are wrong or the key is missing. `api_key` is for a key that does not come
    from the environment (a Secret block's); it stays in memory.
    """

    def __init__(self, settings: JudgeSettings, limiter: Limiter | None = None, api_key: str | None = None):
        name = keys.ModelName.parse(settings.model)
        self.settings = settings
        self._vendor_name, self._model = name.vendor, name.model
        self._url = keys.base_url(name.vendor, settings.base_url)
        self._api_key = api_key
        self.price = _price(settings, name.model)
        if settings.max_usd is not None and self.price is None:
            raise VlfilterError(
                f"max_usd is set but the price of {name.model!r} is not known: give input_usd_per_million and "
                "output_usd_per_million (0 for a server of your own)."
            )
        if settings.batch and settings.cache is None:
            raise VlfilterError("batch needs a cache: the job's id is kept there until its answers are fetched.")
        rates = (settings.requests_per_minute, settings.tokens_per_minute)
        if any(n is not None and n < 1 for n in (settings.concurrency, settings.attempts, *rates)):
            raise VlfilterError("concurrency, attempts and limits a minute of the judge must be at least 1.")
        if settings.max_usd is not None and not 0 <= settings.max_usd < math.inf:
            raise VlfilterError(f"max_usd is {settings.max_usd}: give dollars, 0 or more.")
        self._cache = Cache(settings.cache)
        self._ledger = open_ledger(settings.ledger, settings.cache)
        self._limiter = limiter or LocalLimiter(settings.requests_per_minute, settings.tokens_per_minute)
        self._loop = LoopThread(f"judge-{self._model}")
        self._pool = ThreadPoolExecutor(max(settings.concurrency, 4), thread_name_prefix="judge-io")
        self._flying: dict[str, asyncio.Task[Answer]] = {}
        self._sender: Sender | None = None  # of the loop's thread, like `_flying`

    async def ask(self, request: Request) -> Answer:
        """The answer to one question; never an exception for what concerns this question alone.

        Raises `BudgetExceededError`, and `VlfilterError` where no question would be answered (wrong key, unknown model,
        cache not writable). Equal questions under way are asked once.
        """
        return await asyncio.wrap_future(self._loop.submit(self._answer(request, Halt())))

    def ask_all(
        self, requests: Sequence[Request], on_answer: Callable[[int, Answer], None] | None = None
    ) -> list[Answer]:
        """All answers, in the order of the questions, `concurrency` of them under way at a time.

        `on_answer(index, answer)` is called in this thread, in the order in which answers come. At the first error as
        in `ask` nothing more is sent, what is under way is waited for and cached, and the error is raised.
        """
        answers: list[Answer | None] = [None] * len(requests)
        done: queue.SimpleQueue[tuple[int, Answer] | None] = queue.SimpleQueue()
        work = self._batch_all(requests, done) if self.settings.batch else self._answer_all(enumerate(requests), done)
        running = self._loop.submit(work)
        running.add_done_callback(lambda _: done.put(None))
        try:
            while (item := done.get()) is not None:
                answers[item[0]] = item[1]
                if on_answer is not None:
                    on_answer(*item)
        except BaseException:
            running.cancel()
            raise
        running.result()
        return [answer for answer in answers if answer is not None]

    def collect_batches(self) -> list[Collected]:
        """Fetch and cache the answers of this model's batch jobs that have ended, whoever handed them in."""

        async def collect() -> list[Collected]:
            return await self._batches(await self._ready()).collect(self._cache)

        return self._loop.submit(collect()).result()

    def estimate(self, requests: Iterable[Request]) -> Estimate:
        """The dry run: nothing is sent and no key is needed."""
        return estimate(requests, self._key, self._cached, self._model, self.price, self.settings.batch)

    def spending(self) -> list[Spent]:
        """All that the ledger has recorded, by model and labels."""
        return self._ledger.spending()

    def close(self) -> None:
        if self._sender is not None:
            self._loop.submit(self._sender.vendor.close()).result(timeout=30)
            self._sender = None
        self._loop.stop()
        self._pool.shutdown(wait=False)

    def __enter__(self) -> Judge:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _key(self, request: Request) -> str:
        server = keys.server_name(self._vendor_name, self._url)
        return cache_key(request, self._vendor_name, self._model, server)

    def _cached(self, request: Request) -> Answer | None:
        return self._cache.get(self._key(request))

    async def _answer_all(
        self, requests: Iterable[tuple[int, Request]], done: queue.SimpleQueue[tuple[int, Answer] | None]
    ) -> None:
        halt = Halt()
        todo = iter(requests)

        async def work() -> None:
            for index, request in todo:
                if halt.error is not None:
                    return
                try:
                    done.put((index, await self._answer(request, halt)))
                except Exception as error:
                    halt.stop(error)

        await asyncio.gather(*(work() for _ in range(self.settings.concurrency)))
        if halt.error is not None:
            raise halt.error

    async def _answer(self, request: Request, halt: Halt) -> Answer:
        key = self._key(request)
        while (running := self._flying.get(key)) is not None:
            try:
                return again(await asyncio.shield(running))
            except asyncio.CancelledError:
                if not running.cancelled():
                    raise  # it is we who are cancelled
        task = asyncio.ensure_future(self._fetch(key, request, halt))
        self._flying[key] = task
        try:
            return await task
        finally:
            self._flying.pop(key, None)

    async def _fetch(self, key: str, request: Request, halt: Halt) -> Answer:
        found = await self._io(lambda: self._cache.get(key))
        if found is not None:
            return found
        if request.schema is not None:
            check_schema(request.schema)
        sender = await self._ready()
        answer = await self._ask_paid(sender, request, halt)
        await self._io(lambda: self._cache.put(key, answer))
        return answer

    async def _ask_paid(self, sender: Sender, request: Request, halt: Halt) -> Answer:
        sent = await sender.send(request, halt)
        if isinstance(sent, Answer):
            return sent
        answer, wrong = read_answer(request, sent.reply)
        answer = replace(answer, usd=sent.usd)
        return answer if wrong is None else await self._repaired(sender, request, answer, wrong, halt)

    async def _repaired(self, sender: Sender, request: Request, first: Answer, wrong: str, halt: Halt) -> Answer:
        """The one second try for JSON that is not valid."""
        sent = await sender.send(request, halt, Repair(first.text, wrong))
        if isinstance(sent, Answer):
            return replace(sent, usage=first.usage + sent.usage, usd=first.usd + sent.usd)
        second, still = read_answer(request, sent.reply)
        reason = f"after a repair: {second.reason}" if still is not None else second.reason
        return replace(second, reason=reason, usage=first.usage + second.usage, usd=first.usd + sent.usd)

    async def _ready(self) -> Sender:
        """The vendor's client, made on this loop when the first question has to be sent."""
        if self._sender is None:
            self._cache.check()
            key = keys.key_for(self._vendor_name, self._url, self._api_key)
            where = Where(self._vendor_name, self._model, self._url, key, keys.VARIABLES[self._vendor_name])
            vendor = make_vendor(where, self.settings.timeout_s)
            self._sender = Sender(vendor, self._ledger, self._limiter, self.price, self.settings, self._model, self._io)
        return self._sender

    def _io(self, work: Callable[[], T]) -> Awaitable[T]:
        return asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def _batch_all(self, requests: Sequence[Request], done: queue.SimpleQueue[tuple[int, Answer] | None]) -> None:
        """Cached answers at once, the others as their batches end."""
        places: dict[str, list[int]] = {}
        for index, request in enumerate(requests):
            places.setdefault(self._key(request), []).append(index)
        pending: dict[str, Request] = {}

        def emit(key: str, answer: Answer) -> None:
            for index in places[key]:
                done.put((index, answer))
                answer = again(answer)

        async def look_up(todo: Iterator[tuple[str, Request]]) -> None:
            for key, request in todo:
                found = await self._io(lambda: self._cache.get(key))  # noqa: B023
                if found is not None:
                    emit(key, found)
                else:
                    check_schema(request.schema or {})
                    pending[key] = request

        todo = iter([(key, requests[indices[0]]) for key, indices in places.items()])
        await asyncio.gather(*(look_up(todo) for _ in range(self.settings.concurrency)))
        if not pending:
            return
        sender = await self._ready()

        async def finish(key: str, request: Request, reply: Reply, usd: float) -> Answer:
            answer, wrong = read_answer(request, reply)
            answer = replace(answer, usd=usd)
            if wrong is not None:
                answer = await self._repaired(sender, request, answer, wrong, Halt())
            await self._io(lambda: self._cache.put(key, answer))
            return answer

        in_order = {key: pending[key] for key in places if key in pending}
        await BatchRun(self._batches(sender), finish, emit).run(in_order)

    def _batches(self, sender: Sender) -> Batches:
        settings = BatchSettings(
            self.settings.cache or "",
            self._vendor_name,
            self._model,
            keys.server_name(self._vendor_name, self._url),
            self.price,
            self.settings.max_usd,
            self.settings.attempts,
            self.settings.backoff_s,
            self.settings.poll_s,
            self.settings.concurrency,
        )
        return Batches(sender.vendor, self._ledger, settings, self._io)


def _price(settings: JudgeSettings, model: str) -> Price | None:
    given = (settings.input_usd_per_million, settings.output_usd_per_million)
    if given[0] is None and given[1] is None:
        return known_price(model)
    if given[0] is None or given[1] is None or min(given[0], given[1]) < 0:
        raise VlfilterError("give both input_usd_per_million and output_usd_per_million, neither below 0.")
    return Price(given[0], given[1])
