from __future__ import annotations

import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from vlfilter.scoring.parcels import pack, receive, send

plain = st.recursive(st.none() | st.integers() | st.text() | st.binary(), lambda inner: st.lists(inner, max_size=4))
pixels = arrays.arrays(np.uint8, arrays.array_shapes(max_dims=3, max_side=40, min_side=0))


def sent(thing: Any) -> Any:
    here, there = socket.socketpair()
    with here, there, ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send, here, pack(thing))
        arrived = receive(there)
        sending.result()
    return arrived


@given(st.lists(st.tuples(plain, pixels), max_size=5))
def test_what_is_sent_arrives(things: list[tuple[Any, np.ndarray]]) -> None:
    found = sent(things)
    assert [one for one, _ in found] == [one for one, _ in things]
    for (_, one), (_, other) in zip(found, things, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other, strict=True)


def test_arrays_travel_beside_the_pickle_and_may_be_written_to() -> None:
    """As large as a chunk of pictures, so that a socket's buffer does not hold it."""
    whole = np.arange(3_000_000, dtype=np.uint8).reshape(1000, 1000, 3)
    assert len(pack(whole)[0]) < 1000
    found = sent({"pixels": whole, "key": "000"})
    np.testing.assert_array_equal(found["pixels"], whole)
    found["pixels"][0] = 7
    assert whole[0].max() != 7


@pytest.mark.parametrize("kept", [0, 3, 20, 5000])
def test_an_end_that_goes_away_is_told(kept: int) -> None:
    here, there = socket.socketpair()
    parts = pack(np.ones(10_000, np.uint8))
    whole = struct.pack("<I2Q", 2, *map(len, parts)) + b"".join(parts)
    with there:
        writer = threading.Thread(target=lambda: (here.sendall(whole[:kept]), here.close()))
        writer.start()
        with pytest.raises(EOFError, match="the other end is closed"):
            receive(there)
        writer.join()
