"""Preparing samples in processes of their own, beside a GPU so fast that one interpreter's lock would starve it.

A process gets the scorers' preparers once, without weights, then chunks of raw samples; it answers with prepared ones.
One thread of this process waits for each.
"""

from __future__ import annotations

import heapq
import itertools
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from vlfilter.data.decode import Limits
from vlfilter.data.samples import RawSample
from vlfilter.errors import ServerError, VlfilterError
from vlfilter.scoring.base import Preparer
from vlfilter.scoring.parcels import pack, receive, send
from vlfilter.scoring.pipeline import Prepare, PreparedSample, prepare_chunk

GRACE_S = 2.0
# One thread each: there are as many processes as cores to use.
QUIET = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


class PrepareProcesses:
    """At most `count` processes, started as they are needed, for all shards that are under way.

    They end with this process, or when nobody holds them any more. One that dies is replaced. Raises `VlfilterError`
    for a preparer that cannot be pickled.
    """

    def __init__(self, preparers: Sequence[Preparer], count: int, limits: Limits):
        try:
            self._setup = pack((tuple(preparers), limits))
        except Exception as error:  # whatever a scorer's own parts raise
            names = ", ".join(preparer.name for preparer in preparers)
            raise VlfilterError(
                f"{names} cannot prepare in processes, as its preparer cannot be pickled ({error}): "
                "use prepare_in threads."
            ) from error
        self._lock = threading.Lock()
        self._idle: list[_Process | None] = [None] * count
        self._waiting: list[tuple[int, int, queue.SimpleQueue[_Process | None]]] = []  # a heap
        self._turns, self._calls = itertools.count(), itertools.count()

    def turn(self) -> Prepare:
        """For one shard; may be called in several threads at a time. Who has an older turn comes first, so that of
        shards begun together one feeds the model at once, and another while that one ends.

        Raises `ServerError`, after which another try makes sense, when a process dies over its samples.
        """
        return partial(self._prepare, next(self._turns))

    def _prepare(self, turn: int, raws: Sequence[RawSample]) -> list[PreparedSample]:
        process = self._take(turn)
        try:
            process = process or _Process(self._setup)
            return process.ask(raws)
        except (EOFError, OSError) as error:
            ended, process = process, None
            raise ServerError(
                f"a process died while it prepared the samples {raws[0].key!r} to {raws[-1].key!r} "
                f"(exit status {ended and ended.end()}): was there too little memory? Fewer `workers` need less."
            ) from error
        finally:
            self._give(process)

    def _take(self, turn: int) -> _Process | None:
        """A free process, or None where one may be started."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
            mine: queue.SimpleQueue[_Process | None] = queue.SimpleQueue()
            heapq.heappush(self._waiting, (turn, next(self._calls), mine))
        return mine.get()

    def _give(self, process: _Process | None) -> None:
        with self._lock:
            if self._waiting:
                heapq.heappop(self._waiting)[-1].put(process)
            else:
                self._idle.append(process)


class _Process:
    def __init__(self, setup: Sequence[memoryview]):
        self._link, there = socket.socketpair()
        env = {**os.environ, **QUIET, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-m", __name__, str(there.fileno())]
        with there:
            self._popen = subprocess.Popen(  # noqa: S603 - this very module
                command, stdin=subprocess.DEVNULL, env=env, pass_fds=[there.fileno()]
            )
        send(self._link, setup)

    def ask(self, raws: Sequence[RawSample]) -> list[PreparedSample]:
        send(self._link, pack(raws))
        answer: list[PreparedSample] = receive(self._link)
        return answer

    def end(self) -> int:
        """The exit status; negative for a signal. With its link closed it ends by itself, or else it must."""
        self._link.close()
        try:
            return self._popen.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            return self._popen.wait()

    def __del__(self) -> None:
        with suppress(AttributeError):  # it never started
            self.end()


def serve(link: socket.socket) -> None:
    """What a process does: preparers and limits come first, then samples until the other end closes."""
    preparers, limits = receive(link)
    with suppress(EOFError, ConnectionError):
        while True:
            send(link, pack(prepare_chunk(receive(link), preparers, limits)))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run, whose end ends this
    serve(socket.socket(fileno=int(sys.argv[1])))
