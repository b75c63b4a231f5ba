"""Answers of a model to a benchmark's questions, a Parquet table for each shard of questions, written as they come.

A shard is done when its table lies in its place and its footer says that these questions and this model made it. A run
that was killed goes on behind its last shard; images that were missing or broken are tried again.
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from vlfilter.data.samples import SampleError, Status
from vlfilter.data.storage import join, read_bytes, write_bytes
from vlfilter.data.tables import digest
from vlfilter.errors import VlfilterError
from vlfilter.evaluation.items import Item, item_image, items_digest
from vlfilter.scoring.base import Prepared
from vlfilter.scoring.batching import Batcher, BatchRunner
from vlfilter.scoring.heap import share_arenas
from vlfilter.scoring.pipeline import describe, ordered_map

log = logging.getLogger(__name__)

FOOTER = b"vlfilter"
# what another run may change: a file that has come, a batch that a device failed on
AGAIN = (Status.MISSING_IMAGE, Status.CORRUPT_IMAGE, Status.FAILED)
Record = dict[str, Any]


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


def cut_shards(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    """Raises `VlfilterError` when two items have one key: their answers could not be told apart."""
    seen: set[str] = set()
    for item in items:
        if item.key in seen:
            raise VlfilterError(f"two questions have the key {item.key!r}.")
        seen.add(item.key)
    return [items[start : start + size] for start in range(0, len(items), size)]


def answer_items(items: Sequence[Item], answerer: Answerer, output: str, settings: RunSettings) -> list[Record]:
    """A record (`key`, the answerer's columns, `status`, `reason`) for every item, in their order.

    Tables lie below `output`. Raises `VlfilterError` when the model cannot be loaded.
    """
    share_arenas()
    runner = make_runner(answerer, settings)
    shards = cut_shards(items, settings.shard)
    records: list[Record] = []
    for number, shard in enumerate(shards):
        records += answer_shard(shard, number, runner, answerer, output, settings)
        log.info("%s: shard %d of %d done", answerer.name, number + 1, len(shards))
    return records


def make_runner(answerer: Answerer, settings: RunSettings) -> BatchRunner:
    """What runs batches, halves those that fail and remembers a budget that did not fit into memory."""
    scorer: Any = answerer  # of a scorer only what both have is used
    return BatchRunner(scorer, settings.batch_tokens)


def answer_shard(
    items: Sequence[Item], number: int, runner: BatchRunner, answerer: Answerer, output: str, settings: RunSettings
) -> list[Record]:
    """The records of one shard: read where its table is there, else answered and written."""
    url = join(output, f"shard-{number:05d}.parquet")
    schema = pa.schema([("key", pa.string()), *answerer.columns, ("status", pa.string()), ("reason", pa.string())])
    parts = {"answerer": runner.parts, "items": items_digest(items)}
    kept = {record["key"]: record for record in _read(url, schema, parts)}
    wanted = [item for item in items if item.key not in kept or kept[item.key]["status"] in AGAIN]
    if not wanted:
        return [kept[item.key] for item in items]
    fresh = dict(zip([item.key for item in wanted], _answer(wanted, runner, answerer, settings), strict=True))
    records = [fresh.get(item.key) or kept[item.key] for item in items]
    if records != list(kept.values()):
        _write(url, records, schema, parts)
    return records


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


def _write(url: str, records: Sequence[Record], schema: pa.Schema, parts: Mapping[str, Any]) -> None:
    footer = json.dumps({"fingerprint": digest(parts), "parts": parts}, sort_keys=True).encode()
    table = pa.Table.from_pylist([_storable(record) for record in records], schema=schema)
    file = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({FOOTER: footer}), file, compression="zstd")
    write_bytes(url, file.getvalue())


def _read(url: str, schema: pa.Schema, parts: Mapping[str, Any]) -> list[Record]:
    """The records of a table that these parts made; none where there is no such table."""
    try:
        table = pq.read_table(io.BytesIO(read_bytes(url)))
        footer = json.loads((table.schema.metadata or {})[FOOTER])
        if footer["fingerprint"] != digest(parts):
            return []
        records: list[Record] = table.select(schema.names).cast(schema).to_pylist()
        return records
    except FileNotFoundError:
        return []
    except (pa.ArrowException, KeyError, TypeError, ValueError):  # damaged: made again
        return []


def _storable(record: Record) -> Record:
    """With `?` for lone surrogates, which UTF-8 has no bytes for."""
    return {
        name: value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else value
        for name, value in record.items()
    }
