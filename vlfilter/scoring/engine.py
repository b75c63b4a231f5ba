"""One shard through all scorers: read once, decode once, score many, write one table a scorer."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute

from vlfilter.data.decode import Limits
from vlfilter.data.reader import ShardReader
from vlfilter.data.samples import SampleError, Status
from vlfilter.data.shards import Shard
from vlfilter.data.states import State, table_state
from vlfilter.data.tables import (
    Footer,
    count_statuses,
    digest,
    table_schema,
    table_url,
    write_table,
)
from vlfilter.errors import ShardError, VlfilterError
from vlfilter.scoring.base import Scorer
from vlfilter.scoring.batching import Batcher
from vlfilter.scoring.pipeline import Prepare, prepare_chunk, prepare_shard
from vlfilter.scoring.preparing import PrepareProcesses
from vlfilter.scoring.progress import BOARD, ProgressBoard
from vlfilter.scoring.runner import BatchRunner, Row

HOPELESS = 8  # failures of a scorer that never scored anything: its own fault, not the samples'


class StoppedError(VlfilterError):
    """The run is being stopped; the shard is left for the next one."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """`workers` threads decode beside the model; `limits` cap what one sample may cost. With `processes` the threads
    only wait for those, which have limits of their own."""

    workers: int = 2
    limits: Limits = field(default_factory=Limits)
    processes: PrepareProcesses | None = None

    def prepare(self, scorers: Sequence[Scorer]) -> Prepare:
        """For one shard."""
        if self.processes:
            return self.processes.turn()
        return partial(prepare_chunk, scorers=scorers, limits=self.limits)


@dataclass(frozen=True, slots=True)
class ShardResult:
    """What came of one shard and scorer: the table's footer, as written."""

    scorer: str
    url: str
    footer: Footer


def score_shard(
    shard: Shard,
    runners: Sequence[BatchRunner],
    output: str,
    settings: EngineSettings,
    board: ProgressBoard = BOARD,
) -> list[ShardResult]:
    """Score every sample of a shard with every runner and write the tables.

    Raises `ShardError` when the tar cannot be read, when a table would not have one row a sample, or when a scorer
    failed on every sample; storage errors come through, so that the caller may try again. No table is written then.
    Where another run has finished a table meanwhile, that one stays.
    """
    started = time.perf_counter()
    reader = ShardReader(shard)
    scorers = [runner.scorer for runner in runners]
    outputs = [(Batcher(runner), TableBuilder(runner.scorer.columns)) for runner in runners]
    before = [_done_table(shard, runner, output) for runner in runners]
    samples = prepare_shard(reader, settings.prepare(scorers), settings.workers)
    size = failed = 0
    keys = 0
    try:
        for position, sample in enumerate(samples):
            if board.stopping:
                raise StoppedError
            for (batcher, builder), prepared in zip(outputs, sample.inputs, strict=True):
                builder.expect(sample.key, sample.uid)
                batcher.add(position, prepared)
                builder.take(batcher.rows)
            bad = any(isinstance(prepared, SampleError) for prepared in sample.inputs)
            board.add(size=sample.size, samples=1, failed=bad)
            size, keys, failed = size + sample.size, keys + 1, failed + bad
        results = [
            _finish(shard, batcher, builder, output, reader.warnings, started, old)
            for (batcher, builder), old in zip(outputs, before, strict=True)
        ]
    except BaseException:
        board.add(size=-size, samples=-keys, failed=-failed)  # counted again when the shard is tried again
        raise
    board.add(size=shard.size - size, shards=1)  # padding, and what compression saved
    return results


def _done_table(shard: Shard, runner: BatchRunner, output: str) -> Footer | None:
    """The footer of the table in the shard's place, if it is what would be computed now."""
    found = table_state(output, runner.scorer.name, shard, runner.parts, digest(runner.parts))
    return found.footer if found.state is State.DONE else None


def _finish(
    shard: Shard,
    batcher: Batcher,
    builder: TableBuilder,
    output: str,
    warnings: Sequence[str],
    started: float,
    before: Footer | None,
) -> ShardResult:
    scorer = batcher.runner.scorer
    batcher.finish()
    builder.take(batcher.rows)
    table = builder.table(shard)
    counts = count_statuses(table["status"].to_pylist())
    if counts.get(Status.FAILED, 0) >= HOPELESS and not batcher.runner.scored:
        first = table.filter(pa.compute.equal(table["status"], str(Status.FAILED)))["reason"][0]
        raise ShardError(f"{shard.url}: {scorer.name} scored no sample at all. The first failure: {first}")
    parts = dict(batcher.runner.parts)
    seconds = round(time.perf_counter() - started, 3)
    made = datetime.now(UTC).isoformat()
    footer = Footer(shard, scorer.name, digest(parts), parts, counts, seconds, tuple(warnings), made=made)
    url = table_url(output, scorer.name, shard.name)
    there = _done_table(shard, batcher.runner, output)
    if there and (before is None or there.made != before.made):  # by another run: a finished table is not touched
        return ShardResult(scorer.name, url, there)
    write_table(url, table, footer)
    return ShardResult(scorer.name, url, footer)


class TableBuilder:
    """Rows in tar order, packed into Arrow as soon as a stretch is complete, so that memory stays small."""

    STRETCH = 4096

    def __init__(self, columns: pa.Schema):
        self.schema = table_schema(columns)
        self._columns = columns.names
        self._waiting: deque[tuple[str, str]] = deque()
        self._next = 0
        self._rows: list[dict[str, Any]] = []
        self._batches: list[pa.RecordBatch] = []

    def expect(self, key: str, uid: str) -> None:
        """Announce the next sample of the tar."""
        self._waiting.append((key, uid))

    def take(self, rows: dict[int, Row | SampleError]) -> None:
        """Move finished rows out of `rows`, as far as they follow on without a gap."""
        while self._waiting and self._next in rows:
            key, uid = self._waiting.popleft()
            row = rows.pop(self._next)
            self._next += 1
            if isinstance(row, SampleError):
                values: dict[str, Any] = {"status": str(row.status), "reason": row.reason}
            else:
                values = _values(row)
            self._rows.append({"key": key, "uid": uid, **values})
            if len(self._rows) == self.STRETCH:
                self._pack()

    def table(self, shard: Shard) -> pa.Table:
        """All rows. Raises `ShardError` when a sample that went in has none."""
        if self._waiting:
            key = self._waiting[0][0]
            raise ShardError(f"{shard.url}: no row came out for {len(self._waiting)} samples, the first {key!r}.")
        self._pack()
        return pa.Table.from_batches(self._batches, schema=self.schema)

    def _pack(self) -> None:
        self._batches.append(pa.RecordBatch.from_pylist(self._rows, schema=self.schema))
        self._rows = []


def _values(row: Row) -> dict[str, Any]:
    """A scored row; where a column holds an error instead of a value, the row says so and keeps its other values."""
    errors = [value for value in row.values() if isinstance(value, SampleError)]
    if not errors:
        return {**row, "status": str(Status.OK)}
    kept = {name: None if isinstance(value, SampleError) else value for name, value in row.items()}
    return {**kept, "status": str(errors[0].status), "reason": "; ".join(error.reason for error in errors)}
