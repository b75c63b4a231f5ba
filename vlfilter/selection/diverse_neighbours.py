"""The most similar candidates that are left, exactly: blocked matrix products propose, the deciding cosine disposes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vlfilter.data.features import Features
from vlfilter.selection.diverse_similarity import Similarity, cosine_of, rounding

if TYPE_CHECKING:
    from vlfilter.selection.diverse_device import DeviceProducts

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

TILE = 16_384
GATHER = 4096
FEWEST, MOST = 64, 512
LONGEST = 1024


def list_length(count: int) -> int:
    """How many rows a list holds at first: others will be picked before it is asked for."""
    return max(4 * count, count + 32)


class Neighbours:
    """Lists of the most similar rows, made for many rows at a time.

    Candidates are rows of `features.matrix`; those that were `remove`d are neighbours no more. A list made by a matrix
    product is right up to rounding, at most `slack / 2` a value: whatever lies within `slack` of the k-th is computed
    again by the deciding cosine, so that neither threads, tiles, batches, the BLAS nor a GPU change a choice. On a
    `device` other than the CPU all rows lie there in float32, and lists are made there.
    """

    def __init__(self, features: Features, similarity: Similarity, count: int, candidates: Rows, device: str = "cpu"):
        rows = len(features.matrix)
        self.features = features
        self.count = count
        self.computed = 0  # lists made, and rows compared with all others, for those who want to know
        self.whole_rows = 0
        self._alive = np.zeros(rows, bool)
        self._alive[candidates] = True
        self._left = int(self._alive.sum())
        self._ids = np.full(rows, -1, np.int64)
        self._ids[features.rows] = features.ids
        self._cosine = cosine_of(similarity)
        self._slack = 2 * rounding(similarity, features.dim)
        self._scale = _inverse_lengths(features.matrix)  # 1/length of the rows alive, else 0
        self._scale[~self._alive] = 0
        self._lists: dict[int, tuple[Rows, Floats]] = {}
        self._length = list_length(count)
        self._exhausted = 0
        self._batch = FEWEST
        self._device = None if device == "cpu" else _on_device(features, device)
        self._made = 0  # lists in the last batch, and how many of any batch were asked for since
        self._used = 0

    def remove(self, row: int) -> None:
        self._left -= int(self._alive[row])
        self._alive[row] = False
        self._scale[row] = 0

    @property
    def wanted(self) -> int:
        """How many further rows a new batch has room for."""
        return self._batch - 1

    def known(self, row: int) -> bool:
        return row in self._lists

    def prepare(self, row: int, others: Rows) -> None:
        """Make the lists of a row and of others that are likely to be asked for next."""
        if self._made and 4 * self._used >= 3 * self._made:
            self._batch = min(MOST, 2 * self._batch)
        elif 2 * self._used < self._made:
            self._batch = max(FEWEST, self._batch // 2)
        rows = np.unique(np.append(others, row))
        lists, sims = self._best(rows)
        for place, one in enumerate(rows.tolist()):
            self._lists[one] = lists[place], sims[place]
        self._made, self._used = len(rows), 0
        self.computed += len(rows)

    def exhausted(self, row: int) -> bool:
        """Whether a list of this row is missing, or too many of its entries are gone by now. Such a list is dropped."""
        if row not in self._lists:
            return True
        if self._contenders(row) is not None:
            return False
        del self._lists[row]
        self._exhausted += 1
        if self._exhausted > 32 + self.computed // 20:
            self._length, self._exhausted = min(LONGEST, 2 * self._length), 0
        return True

    def nearest(self, row: int) -> tuple[Rows, Floats]:
        """The `count` rows alive (all, where fewer are left) with the largest cosine to `row`, ties by lower id.

        Its list must have been prepared; it is given up, as every row is asked for once.
        """
        contenders = self._contenders(row)
        if contenders is None:
            contenders = self._whole_row(row)
        self._lists.pop(row, None)
        self._used += 1
        sims = self._cosines(contenders, row)
        order = np.lexsort((self._ids[contenders], -sims))[: self.count]
        return contenders[order], sims[order]

    def position_of_last(self, row: int) -> int | None:
        """Where the `count`-th row alive stands among all rows sorted by cosine to `row`; None if there is none."""
        sims = self._cosines(self.features.rows, row)
        order = np.lexsort((self.features.ids, -sims))
        places = np.flatnonzero(self._alive[self.features.rows[order]])
        return int(places[self.count - 1]) if len(places) >= self.count else None

    def _contenders(self, row: int) -> Rows | None:
        """The rows alive that may be among the nearest; None where the list does not reach far enough."""
        rows, sims = self._lists[row]
        living = self._alive[rows]
        near, values = rows[living], sims[living]
        if len(near) >= self._left:
            return near
        if len(near) < self.count:
            return None
        bound = values[self.count - 1] - self._slack
        if bound <= sims[-1]:
            return None
        return near[: int(np.searchsorted(-values, -bound, side="right"))]

    def _whole_row(self, row: int) -> Rows:
        """The same from all rows, where many are as similar as the last one of the list."""
        self.whole_rows += 1
        one = self._normalised(np.array([row]))[0]
        sims = self._device.with_all(one) if self._device is not None else self._with_all(one)
        sims *= self._scale
        sims[~self._alive] = -np.inf
        if self._left <= self.count:
            return np.flatnonzero(self._alive)
        last = np.partition(sims, len(sims) - self.count)[len(sims) - self.count]
        return np.flatnonzero(sims >= last - self._slack)

    def _with_all(self, one: Floats) -> Floats:
        sims = np.empty(len(self._alive), np.float32)
        for start in range(0, len(sims), TILE):
            sims[start : start + TILE] = self._tile(start) @ one
        return sims

    def _cosines(self, rows: Rows, row: int) -> Floats:
        one = self.features.matrix[row].astype(np.float32)
        parts = [
            self._cosine(self.features.matrix[rows[start : start + GATHER]].astype(np.float32, copy=False), one)
            for start in range(0, len(rows), GATHER)
        ]
        return np.concatenate(parts) if parts else np.empty(0, np.float32)

    def _tile(self, start: int) -> Floats:
        return np.asarray(self.features.matrix[start : start + TILE], np.float32)

    def _normalised(self, rows: Rows) -> Floats:
        block = self.features.matrix[rows].astype(np.float32, copy=False)
        return block * _inverse_lengths(block)[:, None]

    def _best(self, rows: Rows) -> tuple[Rows, Floats]:
        """(rows [b, K], cosines [b, K] in descending order) up to rounding; rows not alive count as 0."""
        ones = self._normalised(rows)
        length = min(self._length, len(self._alive))
        if self._device is not None:
            return self._device.best(ones, self._scale, length)
        best = _Best(len(rows), length)
        for start in range(0, len(self._alive), TILE):
            tile = self._tile(start)
            sims = ones @ tile.T
            sims *= self._scale[start : start + TILE]
            best.add(sims, start)
        return best.lists()


class _Best:
    """The K largest values of each of b rows of a matrix that comes in tiles of columns."""

    def __init__(self, rows: int, length: int):
        self.rows, self.length = rows, length
        self.least = np.full(rows, -np.inf, np.float32)  # a row's K-th largest so far
        self.full = False
        self._found: list[tuple[Rows, Rows, Floats]] = []
        self._pending = 0

    def add(self, values: Floats, start: int) -> None:
        """`values` [b, t]: columns start … start + t of the matrix."""
        columns = values.shape[1]
        # Maxima of groups of columns tell where the largest are: few groups are looked at number by number.
        groups = max(1, min(64, columns // (4 * self.length)))
        width = columns // groups
        cut = values[:, : groups * width].reshape(self.rows, groups, width)
        peaks = cut.max(axis=1)
        if not self.full and width >= self.length:
            # K groups reach their K-th largest peak, so K values do: no smaller one is among the K largest.
            self.least = np.partition(peaks, width - self.length, axis=1)[:, width - self.length]
            row, group = np.nonzero(peaks >= self.least[:, None])
            self._look(cut[row, :, group], row, group, width, start, inclusive=True)
        else:
            row, group = np.nonzero(peaks > self.least[:, None])
            self._look(cut[row, :, group], row, group, width, start, inclusive=not self.full)
        if groups * width < columns:
            rest = values[:, groups * width :]
            row, column = np.nonzero(rest >= self.least[:, None])
            self._keep(row, column + groups * width + start, rest[row, column])
        if self._pending >= self.rows * self.length or not self.full:
            self._merge()

    def lists(self) -> tuple[Rows, Floats]:
        self._merge()
        _, column, value = self._found[0]
        return column.reshape(self.rows, -1), value.reshape(self.rows, -1)

    def _look(self, values: Floats, row: Rows, group: Rows, width: int, start: int, *, inclusive: bool) -> None:
        least = self.least[row][:, None]
        entry, member = np.nonzero(values >= least if inclusive else values > least)
        self._keep(row[entry], member * width + group[entry] + start, values[entry, member])

    def _keep(self, row: Rows, column: Rows, value: Floats) -> None:
        self._found.append((row, column, value))
        self._pending += len(row)

    def _merge(self) -> None:
        row, column, value = (np.concatenate(parts) for parts in zip(*self._found, strict=True))
        order = np.lexsort((-value, row))
        row, column, value = row[order], column[order], value[order]
        place = np.arange(len(row)) - np.searchsorted(row, np.arange(self.rows))[row]
        kept = place < self.length
        self._found = [(row[kept], column[kept], value[kept])]
        self._pending = 0
        if len(self._found[0][0]) == self.rows * self.length:
            self.full = True
            self.least = self._found[0][2].reshape(self.rows, self.length)[:, -1]


def _on_device(features: Features, device: str) -> DeviceProducts:
    from vlfilter.selection.diverse_device import DeviceProducts

    return DeviceProducts(features.matrix, device)


def _inverse_lengths(matrix: npt.NDArray[np.floating]) -> Floats:
    lengths = np.empty(len(matrix))
    for start in range(0, len(matrix), TILE):
        block = np.asarray(matrix[start : start + TILE], np.float32)
        lengths[start : start + TILE] = np.sqrt(np.einsum("ij,ij->i", block, block, dtype=np.float64))
    return np.divide(1, lengths, out=np.zeros(len(matrix)), where=lengths > 0).astype(np.float32)
