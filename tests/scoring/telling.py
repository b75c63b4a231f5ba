"""A preparer that tells of the process that it is in; in a module of its own, as it is imported there."""

from __future__ import annotations

import os
import signal
import sys

from vlfilter.data.samples import ImageText, Interleaved
from vlfilter.scoring.base import Prepared, Preparer


class Telling:
    """Says whether torch is in its process; takes its own process's life at a caption `die`."""

    name = "telling"

    def __init__(self, inner: Preparer):
        self.inner = inner

    def prepare(self, content: ImageText | Interleaved) -> Prepared:
        assert isinstance(content, ImageText)
        if content.caption == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        print("a library that prints")
        self.inner.prepare(content)
        return Prepared(1, ("torch" in sys.modules, os.getpid()))
