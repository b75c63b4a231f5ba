"""Batches by token budget, like lengths together; a failing batch is halved until the culprit is alone."""

from __future__ import annotations

import logging
import math
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vlfilter.data.samples import SampleError, Status
from vlfilter.errors import VlfilterError
from vlfilter.scoring.base import Launching, Prepared, Scorer
from vlfilter.scoring.pipeline import describe

log = logging.getLogger(__name__)

WINDOW = 8  # batches' worth of samples sorted by length at a time; fewer at first, so that a model starts early
Row = dict[str, Any]


def cut_batches(tokens: Sequence[int], budget: int) -> list[list[int]]:
    """Positions grouped so that count × longest ≤ budget, longest first; a sample over the budget goes alone."""
    order = sorted(range(len(tokens)), key=lambda i: (-tokens[i], i))
    batches: list[list[int]] = []
    longest = 0
    for position in order:
        if batches and (len(batches[-1]) + 1) * longest <= budget:
            batches[-1].append(position)
        else:
            batches.append([position])
            longest = max(tokens[position], 1)
    return batches


class BatchRunner:
    """A loaded scorer with its token budget. Shared by all shards of a process: one of them queues a forward pass at a
    time, beside which the others may wait for theirs, and a budget that ran out of memory once stays smaller. `parts`
    is the fingerprint of what was loaded, `scored` tells whether any sample ever got a score."""

    def __init__(self, scorer: Scorer, batch_tokens: int, parts: Mapping[str, Any] | None = None):
        self.scorer = scorer
        self.batch_tokens = batch_tokens
        self.parts = scorer.fingerprint() if parts is None else parts
        self.scored = False
        self._lock = threading.Lock()

    def run(self, batch: Sequence[Prepared]) -> list[Row | SampleError]:
        """A row of column values, or the reason for none, for each sample of the batch."""
        try:
            with self._lock:
                finish = self._launch(batch)
            columns = finish()
            self.scored = True
            return [self._row(columns, i) for i in range(len(batch))]
        except VlfilterError:  # such as a server that is gone: no sample's fault, so the shard fails and not its rows
            raise
        except Exception as error:
            memory = is_out_of_memory(error)
            if not memory and is_device_lost(error):
                raise
            if len(batch) == 1:
                return [error if isinstance(error, SampleError) else self._failed(error)]
        # Outside the handler, so that the failed pass's tensors are free before the next one.
        if memory:
            free_memory()
        half = len(batch) // 2
        rows = self.run(batch[:half]) + self.run(batch[half:])
        if memory and not any(isinstance(row, SampleError) for row in rows):
            self._shrink(batch)  # it was the batch's size, not one sample's
        return rows

    def _launch(self, batch: Sequence[Prepared]) -> Callable[[], dict[str, Sequence[Any]]]:
        if isinstance(self.scorer, Launching):
            return self.scorer.launch(batch)
        columns = self.scorer.score(batch)
        return lambda: columns

    def _failed(self, error: Exception) -> SampleError:
        return SampleError(Status.FAILED, f"{self.scorer.name} failed on it: {describe(error)}")

    def _row(self, columns: dict[str, Sequence[Any]], i: int) -> Row | SampleError:
        row = {name: columns[name][i] for name in self.scorer.columns.names}
        for name, value in row.items():
            if isinstance(value, float) and not math.isfinite(value):
                return SampleError(Status.FAILED, f"{name} is {value}, not a finite number")
        return row

    def _shrink(self, batch: Sequence[Prepared]) -> None:
        padded = len(batch) * max(item.tokens for item in batch)
        smaller = max(1, min(self.batch_tokens, padded // 2))
        if smaller < self.batch_tokens:
            log.warning("%s ran out of memory at %d tokens; batches now hold %d", self.scorer.name, padded, smaller)
        self.batch_tokens = smaller


class Batcher:
    """Collects one shard's prepared samples for a runner and gives their rows back by position."""

    def __init__(self, runner: BatchRunner):
        self.runner = runner
        self.rows: dict[int, Row | SampleError] = {}
        self._waiting: list[tuple[int, Prepared]] = []
        self._tokens = 0
        self._window = 1

    def add(self, position: int, prepared: Prepared | SampleError) -> None:
        if isinstance(prepared, SampleError):
            self.rows[position] = prepared
            return
        self._waiting.append((position, prepared))
        self._tokens += max(prepared.tokens, 1)
        if self._tokens >= self._window * self.runner.batch_tokens:
            self._flush(keep_last=True)
            self._window = min(2 * self._window, WINDOW)

    def finish(self) -> None:
        self._flush(keep_last=False)

    def _flush(self, keep_last: bool) -> None:
        batches = cut_batches([prepared.tokens for _, prepared in self._waiting], self.runner.batch_tokens)
        kept = batches.pop() if keep_last and len(batches) > 1 else []  # the last is seldom full
        for batch in batches:
            members = [self._waiting[i] for i in batch]
            results = self.runner.run([prepared for _, prepared in members])
            self.rows.update({position: row for (position, _), row in zip(members, results, strict=True)})
        self._waiting = [self._waiting[i] for i in sorted(kept)]
        self._tokens = sum(prepared.tokens for _, prepared in self._waiting)


def is_out_of_memory(error: BaseException) -> bool:
    """Of the accelerator or of the host; known by name and text, so that torch need not be imported here."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and (
        "out of memory" in text or "ALLOC_FAILED" in text or "can't allocate memory" in text
    )


def free_memory() -> None:
    """Give cached blocks back to the accelerator, so that smaller tensors find room."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def is_device_lost(error: BaseException) -> bool:
    """After a CUDA fault every later call fails too: no sample's fault, so the shard must fail and not its rows."""
    return type(error).__name__ == "AcceleratorError" or "CUDA error" in str(error)
