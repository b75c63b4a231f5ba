"""Objects through a socket with their arrays beside them, each part received in one call, during which other threads
run: with a pickle in a pipe, a hundred small reads compete for the interpreter's lock."""

from __future__ import annotations

import pickle
import socket
import struct
from collections.abc import Sequence
from typing import Any

_COUNT, _SIZE = struct.Struct("<I"), struct.Struct("<Q")


def pack(thing: Any) -> list[memoryview]:
    """The parts to send. Raises what pickle does."""
    buffers: list[pickle.PickleBuffer] = []
    body = pickle.dumps(thing, protocol=5, buffer_callback=buffers.append)
    return [memoryview(body), *(buffer.raw() for buffer in buffers)]


def send(link: socket.socket, parts: Sequence[memoryview]) -> None:
    """Raises `OSError` when the other end is gone."""
    link.sendall(_COUNT.pack(len(parts)) + b"".join(_SIZE.pack(part.nbytes) for part in parts))
    for part in parts:
        link.sendall(part)


def receive(link: socket.socket) -> Any:
    """What was packed. Arrays share one piece of memory, which they may write to.

    Raises `EOFError` or `OSError` when the other end is gone. Only for a process of our own: a pickle may run code.
    """
    (count,) = _COUNT.unpack(_exactly(link, _COUNT.size))
    sizes = [size for (size,) in _SIZE.iter_unpack(_exactly(link, count * _SIZE.size))]
    whole, parts = _exactly(link, sum(sizes)), []
    for size in sizes:
        parts.append(whole[:size])
        whole = whole[size:]
    return pickle.loads(parts[0], buffers=parts[1:])  # noqa: S301 - from a child of ours


def _exactly(link: socket.socket, size: int) -> memoryview:
    whole = memoryview(bytearray(size))
    rest = whole
    while rest:
        got = link.recv_into(rest, 0, socket.MSG_WAITALL)
        if not got:
            raise EOFError("the other end is closed")
        rest = rest[got:]
    return whole
