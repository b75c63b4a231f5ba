"""Columns of score tables, straight from Parquet."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq


def column_by_key(folder: Path, column: str) -> dict[str, float]:
    """A column of all tables in a scorer's folder, by sample key."""
    found: dict[str, float] = {}
    for path in sorted(folder.rglob("*.parquet")):
        table = pq.read_table(path, columns=["key", column])
        found.update(zip(table["key"].to_pylist(), table[column].to_pylist(), strict=True))
    return found
