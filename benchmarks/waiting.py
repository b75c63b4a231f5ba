"""A scorer whose preparing and whose model only take time, as much as it is told: a machine without them can show how
well the engine keeps them busy."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from vlfilter.data.samples import ImageText, Interleaved
from vlfilter.scoring.base import Prepared, ScorerSettings

NAME = "benchmarks.waiting:WaitingScorer"
TOKENS = 269  # CLIP ViT-L/14's of an image with a caption
PIXELS = np.zeros((224, 224, 3), np.uint8)


@dataclass(frozen=True, slots=True)
class WaitingPreparer:
    name: str
    seconds: float

    def prepare(self, content: ImageText | Interleaved) -> Prepared:  # noqa: ARG002 - nothing but time
        time.sleep(self.seconds)
        return Prepared(TOKENS, PIXELS.copy())  # or it would be sent once


class Device:
    """Does one batch after the other."""

    def __init__(self) -> None:
        self.busy = 0.0  # seconds of work that it was given
        self._free = 0.0
        self._lock = threading.Lock()

    def queue(self, seconds: float) -> Callable[[], None]:
        """What it returns waits until this work is done."""
        with self._lock:
            done = self._free = max(self._free, time.perf_counter()) + seconds
            self.busy += seconds
        return lambda: time.sleep(max(0.0, done - time.perf_counter()))


class WaitingScorer:
    """Options: `prepare_s` and `device_s`, seconds a sample."""

    name = "waiting"
    columns = pa.schema([pa.field("waited", pa.float32())])
    needs_model = False

    def __init__(self, settings: ScorerSettings):
        self.prepare_s, self.device_s = (float(settings.options[name]) for name in ("prepare_s", "device_s"))
        self.device = Device()

    def fingerprint(self) -> dict[str, Any]:
        return {"scorer": self.name, "code": 1}

    def load(self) -> None: ...

    def preparer(self) -> WaitingPreparer:
        return WaitingPreparer(self.name, self.prepare_s)

    def prepare(self, content: ImageText | Interleaved) -> Prepared:
        return self.preparer().prepare(content)

    def score(self, batch: Sequence[Prepared]) -> dict[str, Sequence[Any]]:
        return self.launch(batch)()

    def launch(self, batch: Sequence[Prepared]) -> Callable[[], dict[str, Sequence[Any]]]:
        np.stack([prepared.payload for prepared in batch])  # as before every copy to a GPU
        wait = self.device.queue(self.device_s * len(batch))

        def finish() -> dict[str, Sequence[Any]]:
            wait()
            return {"waited": [self.device_s] * len(batch)}

        return finish
