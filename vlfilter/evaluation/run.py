"""Answers of a model in this process to a benchmark's questions: decoded beside it, in batches, shard by shard."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
from PIL import Image

from vlfilter.data.samples import SampleError, Status
from vlfilter.errors import VlfilterError
from vlfilter.evaluation.items import Item, item_image
from vlfilter.evaluation.shards import AGAIN, Record, answer_in_shards
from vlfilter.scoring.base import Prepared
from vlfilter.scoring.batching import Batcher
from vlfilter.scoring.heap import share_arenas
from vlfilter.scoring.pipeline import describe, ordered_map
from vlfilter.scoring.runner import BatchRunner

__all__ = ["AGAIN", "Answerer", "Local", "Record", "RunSettings", "answer_items"]


class Answerer(Protocol):
    """A way to answer questions; `columns` are those of the tables beside `key`, `status` and `reason`.

    `load` may be called often, by several threads, before `prepare`, which runs in them; `score` runs in one, and gives
    one value a question and column. A `SampleError` in place of a value leaves the question without an answer.
    """

    @property
    def name(self) -> str: ...

    @property
    def columns(self) -> pa.Schema: ...

    def fingerprint(self) -> dict[str, Any]: ...

    def load(self) -> None: ...

    def prepare(self, item: Item, image: Image.Image) -> Prepared: ...

    def score(self, batch: Sequence[Prepared]) -> Mapping[str, Sequence[Any]]: ...


@dataclass(frozen=True, slots=True)
class RunSettings:
    """`images` is the folder that the items' paths start from; `shard` the questions in one table, `batch_tokens` those
    of a forward pass with padding and images, `workers` the threads that decode beside the model."""

    images: str
    shard: int = 512
    batch_tokens: int = 8192
    workers: int = 2

    def __post_init__(self) -> None:
        for name in ("shard", "batch_tokens", "workers"):
            if getattr(self, name) < 1:
                raise VlfilterError(f"{name.replace('_', ' ')} is {getattr(self, name)}: it must be at least 1.")


class Local:
    """An answerer with a model in this process, whose batches are halved where they fail; what did not fit into memory
    once stays smaller."""

    def __init__(self, answerer: Answerer, settings: RunSettings):
        scorer: Any = answerer  # of a scorer only what both have is used
        self.name, self.columns = answerer.name, answerer.columns
        self.answerer, self.settings = answerer, settings
        self.runner = BatchRunner(scorer, settings.batch_tokens)
        self.parts = self.runner.parts

    def answer(self, items: Sequence[Item]) -> list[Record]:
        share_arenas()
        return _answer(items, self.runner, self.answerer, self.settings)


def answer_items(items: Sequence[Item], answerer: Answerer, output: str, settings: RunSettings) -> list[Record]:
    """A record (`key`, the answerer's columns, `status`, `reason`) for every item, in their order.

    Tables lie below `output`. Raises `VlfilterError` when the model cannot be loaded.
    """
    return answer_in_shards(items, Local(answerer, settings), output, settings.shard)


def _answer(items: Sequence[Item], runner: BatchRunner, answerer: Answerer, settings: RunSettings) -> list[Record]:
    batcher = Batcher(runner)
    prepare = _preparer(answerer, settings.images)
    ahead = 8 * settings.workers
    for position, prepared in enumerate(ordered_map(prepare, items, settings.workers, ahead)):
        batcher.add(position, prepared)
    batcher.finish()
    return [_record(item, batcher.rows[i], answerer.columns.names) for i, item in enumerate(items)]


def _preparer(answerer: Answerer, images: str) -> Callable[[Item], Prepared | SampleError]:
    def prepare(item: Item) -> Prepared | SampleError:
        try:
            image = item_image(item, images)
        except SampleError as problem:
            return problem
        answerer.load()  # what fails here is no question's fault
        try:
            return answerer.prepare(item, image)
        except SampleError as problem:
            return problem
        except Exception as error:
            return SampleError(Status.FAILED, f"it could not be prepared: {describe(error)}")

    return prepare


def _record(item: Item, row: Record | SampleError, names: Sequence[str]) -> Record:
    if not isinstance(row, SampleError):
        row = next((value for value in row.values() if isinstance(value, SampleError)), row)
    if isinstance(row, SampleError):
        return {"key": item.key, **dict.fromkeys(names), "status": str(row.status), "reason": row.reason}
    return {"key": item.key, **row, "status": str(Status.OK), "reason": ""}
