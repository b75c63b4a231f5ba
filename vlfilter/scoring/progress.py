"""How far a run is: counters that the engine adds to and that a terminal bar or an artifact reads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Progress:
    """`bytes_*` count tar bytes of the shards to do, the best measure of what is left; `failed` counts samples
    without a score."""

    bytes_total: int = 0
    bytes_done: int = 0
    shards_total: int = 0
    shards_done: int = 0
    shards_failed: int = 0
    samples: int = 0
    failed: int = 0
    started: float = 0.0

    @property
    def fraction(self) -> float:
        return min(1.0, self.bytes_done / self.bytes_total) if self.bytes_total else 1.0

    def samples_per_second(self) -> float:
        return self.samples / max(time.monotonic() - self.started, 1e-6)


class ProgressBoard:
    """Thread-safe; one a process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = Progress()
        self._stop = threading.Event()

    def stop(self) -> None:
        """Ask the shards that are being scored to end where they are."""
        self._stop.set()

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def start(self, shards: int, size: int) -> None:
        self._stop.clear()
        with self._lock:
            self._now = Progress(bytes_total=size, shards_total=shards, started=time.monotonic())

    def add(self, *, size: int = 0, samples: int = 0, failed: int = 0, shards: int = 0, shards_failed: int = 0) -> None:
        with self._lock:
            now = self._now
            self._now = replace(
                now,
                bytes_done=now.bytes_done + size,
                samples=now.samples + samples,
                failed=now.failed + failed,
                shards_done=now.shards_done + shards,
                shards_failed=now.shards_failed + shards_failed,
            )

    def read(self) -> Progress:
        with self._lock:
            return self._now


BOARD = ProgressBoard()


@contextmanager
def followed(show: Callable[[Progress], None], every: float) -> Iterator[None]:
    """Call `show` with the board every so many seconds and once at the end, in a thread so that no shard waits."""
    done = threading.Event()

    def follow() -> None:
        while not done.wait(every):
            show(BOARD.read())

    thread = threading.Thread(target=follow, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        show(BOARD.read())
