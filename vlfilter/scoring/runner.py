"""A loaded scorer that takes batches; a failing batch is halved until the culprit is alone."""

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

Row = dict[str, Any]
Rows = list[Row | SampleError]


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

    def run(self, batch: Sequence[Prepared]) -> Rows:
        """A row of column values, or the reason for none, for each sample of the batch."""
        return self.start(batch)()

    def start(self, batch: Sequence[Prepared]) -> Callable[[], Rows]:
        """Queue a batch where the scorer can. What it returns waits for the rows."""
        try:
            with self._lock:
                finish = self._launch(batch)
        except Exception as error:
            memory, problem = self._judge(error)
        else:
            return lambda: self._rows(batch, finish)
        rows = self._halve(batch, memory, problem)
        return lambda: rows

    def _launch(self, batch: Sequence[Prepared]) -> Callable[[], dict[str, Sequence[Any]]]:
        if isinstance(self.scorer, Launching):
            return self.scorer.launch(batch)
        columns = self.scorer.score(batch)
        return lambda: columns

    def _rows(self, batch: Sequence[Prepared], finish: Callable[[], dict[str, Sequence[Any]]]) -> Rows:
        try:
            columns = finish()
            rows = [self._row(columns, i) for i in range(len(batch))]
            self.scored = True
            return rows
        except Exception as error:
            memory, problem = self._judge(error)
        return self._halve(batch, memory, problem)  # outside the handler, as is `start`'s

    def _judge(self, error: Exception) -> tuple[bool, SampleError]:
        """Whether memory was too small, and the reason for a batch of one. Raises what is no sample's fault."""
        if isinstance(error, VlfilterError):  # such as a server that is gone: the shard fails and not its rows
            raise error
        memory = is_out_of_memory(error)
        if not memory and is_device_lost(error):
            raise error
        told = SampleError(Status.FAILED, f"{self.scorer.name} failed on it: {describe(error)}")
        return memory, error if isinstance(error, SampleError) else told

    def _halve(self, batch: Sequence[Prepared], memory: bool, problem: SampleError) -> Rows:
        """Called outside the handler, so that the failed pass's tensors are free before the next one."""
        if len(batch) == 1:
            return [problem]
        if memory:
            free_memory()
        half = len(batch) // 2
        rows = self.run(batch[:half]) + self.run(batch[half:])
        if memory and not any(isinstance(row, SampleError) for row in rows):
            self._shrink(batch)  # it was the batch's size, not one sample's
        return rows

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
