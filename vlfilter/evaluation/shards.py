"""Questions in shards, a Parquet table for each, written as the answers come.

A shard is done when its table lies in its place and its footer says that these questions and this answerer made it. A
run that was killed goes on behind its last shard; images that were missing or broken are tried again.
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from vlfilter.data.samples import Status
from vlfilter.data.storage import join, read_bytes, write_bytes
from vlfilter.data.tables import digest
from vlfilter.errors import VlfilterError
from vlfilter.evaluation.items import Item, items_digest

log = logging.getLogger(__name__)

FOOTER = b"vlfilter"
# what another run may change: a file that has come, a batch that a device failed on
AGAIN = (Status.MISSING_IMAGE, Status.CORRUPT_IMAGE, Status.FAILED)
Record = dict[str, Any]


class Answering(Protocol):
    """Who answers, and what of it decides whether a table may stay: `parts`, as JSON.

    `columns` are those of the tables beside `key`, `status` and `reason`.
    """

    @property
    def name(self) -> str: ...

    @property
    def columns(self) -> pa.Schema: ...

    @property
    def parts(self) -> Mapping[str, Any]: ...

    def answer(self, items: Sequence[Item]) -> list[Record]:
        """A record for each. Raises `VlfilterError` where no question would be answered."""
        ...


def cut_shards(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    """Raises `VlfilterError` when two items have one key: their answers could not be told apart."""
    seen: set[str] = set()
    for item in items:
        if item.key in seen:
            raise VlfilterError(f"two questions have the key {item.key!r}.")
        seen.add(item.key)
    return [items[start : start + size] for start in range(0, len(items), size)]


def answer_in_shards(
    items: Sequence[Item],
    answering: Answering,
    output: str,
    size: int,
    on_shard: Callable[[int, int], None] | None = None,
) -> list[Record]:
    """A record (`key`, the columns, `status`, `reason`) for every item, in their order; tables lie below `output`.

    `on_shard` is told how many shards are done, of how many.
    """
    shards = cut_shards(items, size)
    records: list[Record] = []
    for number, shard in enumerate(shards):
        records += _answer_shard(shard, join(output, f"shard-{number:05d}.parquet"), answering)
        log.info("%s: shard %d of %d done", answering.name, number + 1, len(shards))
        if on_shard is not None:
            on_shard(number + 1, len(shards))
    return records


def _answer_shard(items: Sequence[Item], url: str, answering: Answering) -> list[Record]:
    """The records of one shard: read where its table is there, else answered and written."""
    schema = pa.schema([("key", pa.string()), *answering.columns, ("status", pa.string()), ("reason", pa.string())])
    parts = {"answerer": answering.parts, "items": items_digest(items)}
    kept = {record["key"]: record for record in _read(url, schema, parts)}
    wanted = [item for item in items if item.key not in kept or kept[item.key]["status"] in AGAIN]
    if not wanted:
        return [kept[item.key] for item in items]
    fresh = dict(zip([item.key for item in wanted], answering.answer(wanted), strict=True))
    records = [fresh.get(item.key) or kept[item.key] for item in items]
    if records != list(kept.values()):
        _write(url, records, schema, parts)
    return records


def _write(url: str, records: Sequence[Record], schema: pa.Schema, parts: Mapping[str, Any]) -> None:
    footer = json.dumps({"fingerprint": digest(parts), "parts": parts}, sort_keys=True).encode()
    table = pa.Table.from_pylist([storable(record) for record in records], schema=schema)
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


def storable(record: Record) -> Record:
    """With `?` for lone surrogates, which UTF-8 has no bytes for."""
    return {
        name: value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else value
        for name, value in record.items()
    }
