"""How many threads torch uses for the demo's models."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread an operation, in every thread of the process.

    The models are so small that a second one brings nothing on an idle machine; on a busy one, where threads wait for
    each other, training with two took six times as long.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
