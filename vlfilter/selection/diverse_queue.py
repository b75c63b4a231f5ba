"""The hardest candidate that is left, while difficulties rise and fall."""

from __future__ import annotations

import heapq

import numpy as np
import numpy.typing as npt


class HardestFirst:
    """Pops positions by current value, highest first, ties by position (the difficulties' own order).

    `values` float64 [n] are kept here and may be changed with `set`. Candidates never changed stand in one sorted
    array; only changed ones are in the heap, where an entry whose value is no longer current is passed over.
    """

    def __init__(self, values: npt.NDArray[np.float64], alive: npt.NDArray[np.bool_]):
        self.values = values
        self.alive = alive
        self.left = int(alive.sum())
        self._sorted = np.argsort(-values, kind="stable")
        self._changed = np.zeros(len(values), bool)
        self._next = 0
        self._heap: list[tuple[float, int]] = []

    def pop(self) -> tuple[int, float]:
        """(position, value) of the hardest one, which is alive no more. There must be one left."""
        entry = min(e for e in (self._unchanged(), self._changed_ones()) if e is not None)
        position = entry[1]
        self.alive[position] = False
        self.left -= 1
        return position, -entry[0]

    def set(self, position: int, value: float) -> None:
        self.values[position] = value
        self._changed[position] = True
        heapq.heappush(self._heap, (-value, position))

    def hardest(self, count: int, among: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """At most `count` positions that are alive and `among` the given: the hardest now, in no particular order."""
        places = np.flatnonzero(self.alive & among)
        if len(places) <= count:
            return places
        return places[np.argpartition(-self.values[places], count)[:count]]

    def _unchanged(self) -> tuple[float, int] | None:
        while self._next < len(self._sorted):
            position = int(self._sorted[self._next])
            if self.alive[position] and not self._changed[position]:
                return -float(self.values[position]), position
            self._next += 1
        return None

    def _changed_ones(self) -> tuple[float, int] | None:
        while self._heap:
            value, position = self._heap[0]
            if self.alive[position] and -value == self.values[position]:
                return self._heap[0]
            heapq.heappop(self._heap)
        return None
