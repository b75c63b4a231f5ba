"""Threads share a few heaps."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, threading
from vlfilter.scoring.heap import share_arenas
share_arenas()
everyone = threading.Barrier(8)
def hold():
    block = ctypes.CDLL(None).malloc(1000)
    everyone.wait()
threads = [threading.Thread(target=hold) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
ctypes.CDLL(None).malloc_stats()
"""


def arenas(**environment: str) -> int:
    clean = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=clean | environment, capture_output=True, text=True, check=True
    )
    return len(re.findall(r"^Arena \d+:", done.stderr, re.MULTILINE))


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="not glibc")
def test_threads_share_two_arenas() -> None:
    assert arenas() == 2


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="not glibc")
def test_what_the_environment_says_goes_first() -> None:
    assert arenas(MALLOC_ARENA_MAX="5") == 5
