"""Small score tables for tests of selection and report."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from vlfilter.data.shards import Shard
from vlfilter.data.tables import Footer, count_statuses, table_schema, table_url, write_table


def uid(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def keys_of(shard: str, rows: int) -> list[str]:
    return [f"{shard}{row:04d}" for row in range(rows)]


def write_scorer(
    root: str,
    scorer: str,
    shard: str | Shard,
    columns: Mapping[str, Sequence[Any]],
    schema: pa.Schema,
    *,
    keys: Sequence[str] | None = None,
    uids: Sequence[str] | None = None,
    status: Sequence[str] | None = None,
    reason: Sequence[str | None] | None = None,
    parts: Mapping[str, Any] | None = None,
) -> None:
    """One score table; keys, uids, status and reason are made up where they are not given."""
    rows = len(next(iter(columns.values())))
    shard = Shard(shard, f"/data/{shard}.tar", 1, "1") if isinstance(shard, str) else shard
    keys = keys_of(shard.name, rows) if keys is None else keys
    status = ["ok"] * rows if status is None else status
    table = pa.table(
        {
            "key": keys,
            "uid": [uid(key) for key in keys] if uids is None else uids,
            **columns,
            "status": status,
            "reason": [None] * rows if reason is None else reason,
        },
        schema=table_schema(schema),
    )
    parts = {"model": f"{scorer}-model", "dtype": "float32"} if parts is None else parts
    footer = Footer(shard, scorer, f"print-of-{scorer}", parts, count_statuses(status), 1.0)
    write_table(table_url(root, scorer, shard.name), table, footer)


def schema(**types: pa.DataType) -> pa.Schema:
    return pa.schema([pa.field(name, kind) for name, kind in types.items()])
