"""Reading and preparing beside the model: a tar becomes prepared samples, in tar order, a bounded number ahead."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from vlfilter.data.decode import Limits, decode_sample
from vlfilter.data.samples import RawSample, SampleError, Status
from vlfilter.scoring.base import Prepared, Preparer

In = TypeVar("In")
Out = TypeVar("Out")

CHUNK = 8  # samples a decoding job: enough to make its overhead vanish, few enough to keep memory low


@dataclass(frozen=True, slots=True)
class PreparedSample:
    """One sample after decoding, with what each scorer made of it; `size` is its bytes in the tar."""

    key: str
    uid: str
    size: int
    inputs: tuple[Prepared | SampleError, ...]


Prepare = Callable[[Sequence[RawSample]], list[PreparedSample]]


def prepare_sample(raw: RawSample, scorers: Sequence[Preparer], limits: Limits) -> PreparedSample:
    """Decode once, prepare for every scorer. Never raises: what goes wrong becomes the sample's `SampleError`."""
    sample = decode_sample(raw, limits)
    inputs: list[Prepared | SampleError] = []
    for scorer in scorers:
        if sample.content is None:
            inputs.append(sample.problem or SampleError(Status.FAILED, "nothing was decoded"))
            continue
        try:
            inputs.append(scorer.prepare(sample.content))
        except SampleError as problem:
            inputs.append(problem)
        except Exception as error:  # a scorer's own bug costs this sample, and says so
            inputs.append(SampleError(Status.FAILED, f"{scorer.name} could not prepare it: {describe(error)}"))
    size = sum(len(member.header) + len(member.data) for member in raw.members)
    return PreparedSample(sample.key, sample.uid, size, tuple(inputs))


def prepare_chunk(raws: Sequence[RawSample], scorers: Sequence[Preparer], limits: Limits) -> list[PreparedSample]:
    return [prepare_sample(raw, scorers, limits) for raw in raws]


def prepare_shard(raws: Iterable[RawSample], prepare: Prepare, workers: int) -> Iterator[PreparedSample]:
    """Prepared samples in tar order. An error of the reader comes out at its place, after the samples before it."""
    for chunk in ordered_map(prepare, _chunks(raws), workers, ahead=2 * workers + 2):
        yield from chunk


def _chunks(raws: Iterable[RawSample]) -> Iterator[tuple[RawSample, ...]]:
    iterator = iter(raws)
    while chunk := tuple(islice(iterator, CHUNK)):
        yield chunk


def ordered_map(function: Callable[[In], Out], items: Iterable[In], workers: int, ahead: int) -> Iterator[Out]:
    """`map` in `workers` threads with the items read in a thread of their own, at most `ahead` results waiting."""
    waiting: queue.Queue[Future[Out] | BaseException | None] = queue.Queue(maxsize=ahead)
    stop = threading.Event()

    def put(entry: Future[Out] | BaseException | None) -> bool:
        while not stop.is_set():
            try:
                waiting.put(entry, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def feed(pool: ThreadPoolExecutor) -> None:
        try:
            for item in items:
                if not put(pool.submit(function, item)):
                    return
            put(None)
        except BaseException as error:  # handed to the consumer, who raises it
            put(error)

    with ThreadPoolExecutor(workers, thread_name_prefix="prepare") as pool:
        feeder = threading.Thread(target=feed, args=(pool,), name="read", daemon=True)
        feeder.start()
        try:
            while (entry := waiting.get()) is not None:
                if isinstance(entry, BaseException):
                    raise entry
                yield entry.result()
        finally:
            stop.set()
            feeder.join()


def describe(error: BaseException) -> str:
    """An exception in one line of bounded length."""
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
