"""Which rows every batch of a run is made of: a function of the seed and the batch's number alone."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence

import numpy as np

from vlfilter.training.mixture import probabilities


def draw_table(ratios: Sequence[float], seed: int, steps: int, draws: int) -> np.ndarray:
    """The data set (its place in `ratios`) of every draw, (steps, draws).

    Column j is what the published loader's process j draws with Python's generator seeded by `seed` + j. The first
    steps are the same however many come after.
    """
    weights = probabilities(ratios)
    columns = [random.Random(seed + j).choices(range(len(weights)), weights, k=steps) for j in range(draws)]  # noqa: S311
    return np.array(columns, dtype=np.int64).T.reshape(steps, draws)


class Draws:
    """The rows of every micro-batch. Micro-batches are counted through the whole run: those of a step in a row, a
    draw's in a row within it.

    `counts[d]` usable rows of data set d are gone through in a random order, and in another one when all have been
    seen. `sizes[d]` samples are one draw of it, which `parts` micro-batches share.
    """

    def __init__(
        self, table: np.ndarray, names: Sequence[str], counts: Sequence[int], sizes: Sequence[int], parts: int,
        seed: int,
    ):  # fmt: skip
        self.names, self.counts, self.sizes, self.parts, self.seed = names, counts, sizes, parts, seed
        self.datasets = table.reshape(-1)
        self.starts = np.zeros_like(self.datasets)  # samples of the same data set that were drawn before
        for number, size in enumerate(sizes):
            own = np.flatnonzero(self.datasets == number)
            self.starts[own] = size * np.arange(len(own))
        self._orders: dict[tuple[int, int], np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.datasets) * self.parts

    def __getitem__(self, batch: int) -> tuple[int, list[int]]:
        """The data set of a micro-batch and the places of its samples among the usable rows."""
        draw, part = divmod(batch, self.parts)
        dataset = int(self.datasets[draw])
        size = self.sizes[dataset] // self.parts
        start = int(self.starts[draw]) + part * size
        return dataset, [self._place(dataset, position) for position in range(start, start + size)]

    def _place(self, dataset: int, position: int) -> int:
        turn, rest = divmod(position, self.counts[dataset])
        if (dataset, turn) not in self._orders:
            if len(self._orders) > 2 * len(self.counts):
                self._orders.clear()  # those of turns that are over
            self._orders[dataset, turn] = self._shuffled(dataset, turn)
        return int(self._orders[dataset, turn][rest])

    def _shuffled(self, dataset: int, turn: int) -> np.ndarray:
        """Told by the data set's name, so that another one in the mixture changes nothing in this one."""
        key = [self.seed, zlib.crc32(self.names[dataset].encode()), turn]
        return np.random.default_rng(key).permutation(self.counts[dataset])
