"""A small scorer of our own for tests of the engine and the flow, found by its import path as a user's would be.

Its model is a text file with a number; its score is the mean brightness of the image times that number plus the length
of the caption. Captions may ask for trouble: `poison` fails in the batch, `nan` scores NaN, `unprepared` fails before.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vlfilter.data.samples import ImageText, Interleaved, SampleError, Status
from vlfilter.errors import VlfilterError
from vlfilter.scoring.base import Prepared, ScorerSettings

NAME = "tests.toy:ToyScorer"


class ToyScorer:
    name = "toy"
    columns = pa.schema([("toy_score", pa.float32()), ("caption_length", pa.int32())])

    def __init__(self, settings: ScorerSettings):
        self.path = Path(settings.model)
        if not self.path.is_file():
            raise VlfilterError(f"the toy model {settings.model} is not a file.")
        self.largest = int(settings.options.get("largest", 10**9))
        self.batches: list[int] = []
        self.weight: float | None = None

    def fingerprint(self) -> dict[str, Any]:
        return {"weights": self.path.read_text(), "code": 1}

    def load(self) -> None:
        self.weight = float(self.path.read_text())
        log("load")

    def prepare(self, content: ImageText | Interleaved) -> Prepared:
        if isinstance(content, Interleaved):
            raise SampleError(Status.UNSUPPORTED, "toy takes image-text pairs")
        if content.caption == "unprepared":
            raise ValueError("cannot prepare this")
        mean = float(np.asarray(content.image).mean())
        return Prepared(len(content.caption), (mean, content.caption))

    def score(self, batch: Sequence[Prepared]) -> dict[str, Sequence[Any]]:
        assert self.weight is not None, "score before load"
        self.batches.append(len(batch))
        if len(batch) * max(item.tokens for item in batch) > self.largest:
            raise MemoryError("too much for the toy")
        captions = [item.payload[1] for item in batch]
        if any(caption.startswith("poison") for caption in captions):
            raise RuntimeError("poison in the batch")
        if any(caption == "gone" for caption in captions):
            raise RuntimeError("CUDA error: device-side assert triggered")
        time.sleep(float(os.environ.get("TOY_SECONDS", "0")))  # so that a kill finds something to interrupt
        if os.environ.get("TOY_HANG_AT") in captions:
            log("hanging")
            signal.pause()  # until somebody kills the process
        scores = [
            float("nan") if caption == "nan" else item.payload[0] * self.weight + len(caption)
            for item, caption in zip(batch, captions, strict=True)
        ]
        log(json.dumps({"scored": len(batch)}))
        return {"toy_score": scores, "caption_length": [len(caption) for caption in captions]}


def log(line: str) -> None:
    """Leave a trace that other processes and tests can count (only where a test asks for one)."""
    if path := os.environ.get("TOY_LOG"):
        with open(path, "a") as file:
            file.write(line + "\n")
