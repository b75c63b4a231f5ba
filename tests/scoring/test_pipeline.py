from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from vlfilter.scoring.pipeline import ordered_map


def test_results_come_in_order_and_the_reader_stays_close_ahead() -> None:
    read: list[int] = []
    seen = 0

    def items() -> Iterator[int]:
        for i in range(200):
            read.append(i)
            yield i

    for result in ordered_map(lambda i: i * i, items(), workers=3, ahead=4):
        assert result == seen * seen
        seen += 1
        assert len(read) <= seen + 4 + 2  # the queue, one in the feeder's hand, one just taken
    assert seen == 200


def test_a_readers_error_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield from range(5)
        raise OSError("the wire broke")

    got = []
    with pytest.raises(OSError, match="the wire broke"):
        for result in ordered_map(lambda i: i, items(), workers=2, ahead=2):
            got.append(result)
    assert got == [0, 1, 2, 3, 4]


def test_leaving_early_ends_the_threads() -> None:
    before = threading.active_count()
    results = ordered_map(lambda i: i, iter(range(10**9)), workers=2, ahead=2)
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
