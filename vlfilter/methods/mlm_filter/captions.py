"""Every caption of some shards in one Parquet file, written in one pass over the tars: what sampling reads from.

One row a sample in order of shard and tar, with `status` and `reason` where the sample is no pair. Images are looked at
only to see that they are there.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vlfilter.data.decode import read_pair
from vlfilter.data.reader import ShardReader
from vlfilter.data.receipts import finished, write_receipt
from vlfilter.data.samples import SampleError, Status
from vlfilter.data.shards import Shard
from vlfilter.data.storage import is_local
from vlfilter.data.tables import digest, open_parquet
from vlfilter.errors import StorageError, VlfilterError
from vlfilter.selection.subset import place_file

CODE_VERSION = 1
SCHEMA = pa.schema(
    [
        pa.field("shard", pa.string()),
        pa.field("place", pa.int64()),  # of the sample in its tar
        pa.field("key", pa.string()),
        pa.field("uid", pa.string()),
        pa.field("caption", pa.string()),
        pa.field("status", pa.string()),
        pa.field("reason", pa.string()),
    ]
)


def shards_digest(shards: Sequence[Shard]) -> str:
    return digest({"shards": [[s.name, s.url, s.size, s.version] for s in shards]})


def scan_captions(shards: Sequence[Shard], url: str, threads: int | None = None) -> dict[str, Any]:
    """Write `url` unless it is there for these shards already. Returns counts: `samples`, `problems` by status, and
    `broken_shards`, a line for each tar that cannot be read (the others go on).

    Raises `VlfilterError` when no tar can be read, `StorageError` when storage fails midway.
    """
    parts = {"code": CODE_VERSION, "shards": shards_digest(shards)}
    if (known := finished(url, parts)) is not None:
        return known
    counts: Counter[str] = Counter()
    broken: list[str] = []
    with place_file(url) as path, pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        for found in _read_ahead(shards, threads):
            if isinstance(found, str):
                broken.append(found)
                continue
            counts.update(found["status"].to_pylist())
            writer.write_table(found)
    if len(broken) == len(shards):
        raise VlfilterError(f"none of the {len(shards)} shards can be read. The first: {broken[0]}")
    problems = {status: counts[status] for status in Status if counts[status] and status is not Status.OK}
    summary = {"samples": counts.total(), "pairs": counts[Status.OK], "problems": problems, "broken_shards": broken}
    return write_receipt(url, parts, summary)


def _read_ahead(shards: Sequence[Shard], threads: int | None) -> Iterator[pa.Table | str]:
    """Each shard's rows, or why it has none, in order of shards; a few are read beside each other."""
    threads = threads or (2 if all(is_local(shard.url) for shard in shards) else 16)
    with ThreadPoolExecutor(threads) as pool:
        queue = iter(shards)
        pending: deque[Future[pa.Table | str]] = deque(pool.submit(_rows, s) for s in islice(queue, 2 * threads))
        try:
            while pending:
                yield pending.popleft().result()
                pending.extend(pool.submit(_rows, shard) for shard in islice(queue, 1))
        finally:
            for future in pending:
                future.cancel()


def _rows(shard: Shard) -> pa.Table | str:
    rows: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    try:
        for place, raw in enumerate(ShardReader(shard)):
            uid = caption = reason = None
            status = Status.OK
            try:
                pair = read_pair(raw)
                uid, caption = pair.uid, pair.caption
            except SampleError as problem:
                status, reason = problem.status, problem.reason
            values = (shard.name, place, raw.key, uid, caption, str(status), reason)
            for name, value in zip(SCHEMA.names, values, strict=True):
                rows[name].append(value)
    except VlfilterError as error:
        return str(error)
    except OSError as error:
        raise StorageError(f"shard {shard.url} could not be read to its end: {error}") from error
    return pa.table(rows, schema=SCHEMA)


def usable_captions(
    url: str, columns: Sequence[str] = ("uid", "caption"), batch_rows: int = 8192
) -> Iterator[pa.RecordBatch]:
    """Those columns of the usable rows of a captions file in order, a batch at a time."""
    with open_parquet(url) as file:
        for batch in file.iter_batches(batch_rows, columns=[*columns, "status"]):
            yield batch.filter(pc.equal(batch["status"], str(Status.OK))).select(list(columns))
