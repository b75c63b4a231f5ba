"""Preparing samples in processes of their own, beside a GPU so fast that one interpreter's lock would starve it.

A process gets the scorers' preparers once, without weights, then chunks of raw samples; it answers with prepared ones.
One thread of this process waits for each.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, Any

from vlfilter.data.decode import Limits
from vlfilter.data.samples import RawSample
from vlfilter.errors import ServerError
from vlfilter.scoring.base import Preparer
from vlfilter.scoring.pipeline import PreparedSample, prepare_chunk

# One thread each: there are as many processes as cores to use.
QUIET = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


class PrepareProcesses:
    """At most `count` processes, started as they are needed; called in several threads at a time.

    They end with this process, or when nobody holds them any more. One that dies is replaced.
    """

    def __init__(self, preparers: Sequence[Preparer], count: int, limits: Limits):
        self._setup = pickle.dumps((tuple(preparers), limits))
        self._free: queue.LifoQueue[_Process | None] = queue.LifoQueue()
        for _ in range(count):
            self._free.put(None)

    def __call__(self, raws: Sequence[RawSample]) -> list[PreparedSample]:
        """Raises `ServerError`, after which another try makes sense, when a process dies over its samples."""
        process = self._free.get()
        try:
            process = process or _Process(self._setup)
            return process.ask(raws)
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            ended, process = process, None
            raise ServerError(
                f"a process died while it prepared the samples {raws[0].key!r} to {raws[-1].key!r} "
                f"(exit status {ended and ended.end()}): was there too little memory? Fewer `workers` need less."
            ) from error
        finally:
            self._free.put(process)


class _Process:
    def __init__(self, setup: bytes):
        env = {**os.environ, **QUIET, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-m", __name__]
        popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)  # noqa: S603 - ours
        assert popen.stdin is not None
        assert popen.stdout is not None
        self._popen, self._input, self._output = popen, popen.stdin, popen.stdout
        self._input.write(setup)

    def ask(self, raws: Sequence[RawSample]) -> list[PreparedSample]:
        pickle.dump(raws, self._input, pickle.HIGHEST_PROTOCOL)
        self._input.flush()
        answer: list[PreparedSample] = pickle.load(self._output)  # noqa: S301 - from our own process
        return answer

    def end(self) -> int:
        """The exit status; negative for a signal."""
        self._popen.kill()
        for pipe in (self._input, self._output):
            with suppress(OSError):  # the rest of a request has no reader any more
                pipe.close()
        return self._popen.wait()

    def __del__(self) -> None:
        with suppress(AttributeError):  # it never started
            self.end()


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """What a process does: preparers and limits come first, then samples until the input closes."""
    preparers, limits = pickle.load(requests)  # noqa: S301 - from the process that started this one
    while True:
        try:
            raws: Any = pickle.load(requests)  # noqa: S301
        except EOFError:
            return
        pickle.dump(prepare_chunk(raws, preparers, limits), answers, pickle.HIGHEST_PROTOCOL)
        answers.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run, whose end ends this
    with os.fdopen(os.dup(1), "wb") as replies:
        os.dup2(2, 1)  # whatever prints must not get between the answers
        serve(sys.stdin.buffer, replies)
