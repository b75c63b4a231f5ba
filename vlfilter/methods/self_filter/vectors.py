"""Columns of vectors for the Parquet files of features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from vlfilter.data.samples import SampleError, Status
from vlfilter.data.tables import TAIL

STORED = {"float16": pa.float16(), "float32": pa.float32()}

Vector = np.ndarray | SampleError  # float32 (d,), or why there is none


def vector_table(head: pa.Table, vectors: Sequence[Vector], dimension: int, dtype: str) -> pa.Table:
    """`head` with the columns `vector` (null where there is none), `status` and `reason`, a row for each of `vectors`.

    A vector that is not finite (in `dtype`) becomes a row that failed.
    """
    matrix = np.zeros((len(vectors), dimension), dtype)
    problems: dict[int, SampleError] = {}
    for row, vector in enumerate(vectors):
        if isinstance(vector, SampleError):
            problems[row] = vector
            continue
        with np.errstate(over="ignore"):
            matrix[row] = vector
        if not np.isfinite(matrix[row]).all():
            problems[row] = SampleError(Status.FAILED, "its features are not finite numbers")
            matrix[row] = 0
    mask = pa.array([row in problems for row in range(len(vectors))], pa.bool_())
    column = pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel(), STORED[dtype]), dimension, mask=mask)
    tail = _tail(problems, len(vectors))
    return head.append_column("vector", column).append_column(TAIL[0], tail[0]).append_column(TAIL[1], tail[1])


def _tail(problems: Mapping[int, SampleError], rows: int) -> tuple[pa.Array, pa.Array]:
    found = [problems.get(row) for row in range(rows)]
    statuses = pa.array([str(problem.status if problem else Status.OK) for problem in found], pa.string())
    return statuses, pa.array([problem.reason if problem else None for problem in found], pa.string())
