"""Feature vectors by id, whatever they were stored as: one matrix in memory or, where it is large, in a mapped file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from vlfilter.data.feature_files import Stored, find_source, read_stored
from vlfilter.errors import VlfilterError

MEMORY_BYTES = 2 * 2**30
BLOCK_BYTES = 64 * 2**20

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Features:
    """N vectors of `dim` numbers.

    `ids` int64 [N], ascending; `rows` int64 [N]: the row of `matrix` [≥ N, dim] (float32 or float16) that holds an id's
    vector; rows of `matrix` that no id uses are zero. `left_out`: (id, reason) of the rows without a usable vector.
    `made_of` changes whenever a file that the vectors came from does.
    """

    ids: Ids
    rows: Ids
    matrix: npt.NDArray[np.floating]
    left_out: tuple[tuple[int, str], ...] = ()
    made_of: str = ""

    @property
    def dim(self) -> int:
        return int(self.matrix.shape[1])

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def reasons(self) -> dict[int, str]:
        return dict(self.left_out)

    def has(self, ids: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Which of `ids` have a vector."""
        return np.isin(np.asarray(ids, np.int64), self.ids)

    def rows_of(self, ids: npt.ArrayLike) -> Ids:
        """The rows of `matrix` for these ids. Raises `VlfilterError` for an id without a vector."""
        wanted = np.asarray(ids, np.int64)
        places = np.searchsorted(self.ids, wanted)
        found = places < len(self.ids)
        found[found] = self.ids[places[found]] == wanted[found]
        if not found.all():
            missing = wanted[~found]
            first = int(missing[0])
            raise VlfilterError(
                f"{len(missing)} ids have no features, the first is {first}: {self.reasons.get(first, 'no such row')}."
            )
        return self.rows[places]

    def take(self, ids: npt.ArrayLike) -> Floats:
        """float32 [n, dim], in the order of `ids`. Raises `VlfilterError` for an id without a vector."""
        return self.matrix[self.rows_of(ids)].astype(np.float32, copy=False)

    def blocks(self, size: int | None = None) -> Iterator[tuple[int, Floats]]:
        """(start, float32 [b, dim]): the vectors of `ids[start : start + b]`, all ids once, in order."""
        size = size or max(1, BLOCK_BYTES // (4 * max(1, self.dim)))
        for start in range(0, len(self.ids), size):
            rows = self.rows[start : start + size]
            if rows[-1] - rows[0] + 1 == len(rows) and (np.diff(rows) == 1).all():
                block = self.matrix[rows[0] : rows[-1] + 1]
            else:
                block = self.matrix[rows]
            yield start, np.asarray(block, dtype=np.float32)

    @classmethod
    def of(cls, matrix: npt.NDArray[np.floating], ids: npt.ArrayLike | None = None, made_of: str = "") -> Features:
        """Features of a matrix in memory, row i for `ids[i]` (else for id i).

        Raises `VlfilterError` for an id that occurs twice. A row with a number that is not finite is left out.
        """
        named = np.arange(len(matrix)) if ids is None else np.asarray(ids)
        return _features(Stored(named.astype(np.int64), matrix, {}, made_of, ours=False), "the features")


def open_features(url: str, work: str | None = None, memory_bytes: int = MEMORY_BYTES) -> Features:
    """Features from `features.npz` (one array `features`, row i for id i), or from a folder of Parquet shards:
    CLIP features (`texts/`, `images/`: image half, then text half) or scores (`clip_score, image_reward, judge_score`).

    What needs more than `memory_bytes` is mapped from the file itself, or from a file in the local folder `work` (else
    in the system's temporary folder) that is gone when the process ends. Rows that have no vector, or one with a NaN or
    an infinity, are in `left_out`. Raises `VlfilterError` when nothing can be read or an id occurs twice.
    """
    return _features(read_stored(url, work, memory_bytes), url)


def features_made_of(url: str) -> str:
    """`made_of` of the features at `url`, without reading them."""
    return find_source(url).made_of


def _features(stored: Stored, origin: str) -> Features:
    ids, matrix = stored.ids, stored.matrix
    if matrix.ndim != 2 or matrix.dtype.kind != "f" or len(matrix) < len(ids):
        raise VlfilterError(
            f"{origin} should hold one row of floating-point numbers an id; it is {matrix.dtype} {list(matrix.shape)}."
        )
    values, times = np.unique(ids, return_counts=True)
    if (times > 1).any():
        twice = ", ".join(map(str, values[times > 1][:5]))
        raise VlfilterError(f"{origin} holds features for these ids more than once: {twice}.")
    broken = _rows_not_finite(matrix, len(ids))
    if broken.any():
        matrix = matrix if stored.ours else matrix.copy()
        matrix[np.flatnonzero(broken)] = 0  # a NaN would spread through products over many rows
    left_out = {**stored.left_out, **{int(i): "a feature is NaN or infinite" for i in ids[broken[: len(ids)]]}}
    rows = np.flatnonzero(~broken[: len(ids)])
    rows = rows[np.argsort(ids[rows], kind="stable")]
    return Features(ids[rows], rows, matrix, tuple(sorted(left_out.items())), stored.made_of)


def _rows_not_finite(matrix: npt.NDArray[np.floating], rows: int) -> npt.NDArray[np.bool_]:
    broken = np.zeros(rows, bool)
    size = max(1, BLOCK_BYTES // (8 * max(1, matrix.shape[1])))
    for start in range(0, rows, size):
        block = matrix[start : min(rows, start + size)]
        # One NaN or infinity makes its row's sum of magnitudes so; only such rows are looked at number by number.
        doubtful = ~np.isfinite(np.abs(block).sum(axis=1, dtype=np.float64))
        broken[start : start + len(block)][doubtful] = ~np.isfinite(block[doubtful]).all(axis=1)
    return broken
