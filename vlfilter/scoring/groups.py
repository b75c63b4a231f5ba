"""Shards in groups: what is left of a run as one file, of which each group reads its own part."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import astuple, fields

import pyarrow as pa
import pyarrow.parquet as pq

from vlfilter.data.shards import Shard
from vlfilter.data.storage import filesystem, join, write_bytes
from vlfilter.data.tables import open_parquet
from vlfilter.errors import VlfilterError

FOLDER = ".plans"  # beside the scorers' folders; whoever lists scorers passes over it
IN_MEMORY = "memory://vlfilter"  # for groups that run in this process
_SCHEMA = pa.schema([("name", pa.string()), ("url", pa.string()), ("size", pa.int64()), ("version", pa.string())])


def group_home(output: str) -> str:
    """What the URLs of all plans of an output begin with."""
    return join(output, FOLDER) + "/"


def cut_groups(shards: Sequence[Shard], size: int) -> list[Sequence[Shard]]:
    return [shards[start : start + size] for start in range(0, len(shards), size)]


def write_groups(shards: Sequence[Shard], size: int, home: str) -> str:
    """Write the shards so that group k of `cut_groups` is row group k; returns the file's URL below `home`.

    The file is named after its content, so the same shards in the same groups are the same file.
    """
    columns = zip(*map(astuple, shards), strict=True)
    names = [field.name for field in fields(Shard)]
    table = pa.table(dict(zip(names, map(list, columns), strict=True)), schema=_SCHEMA)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=size, compression="zstd")
    url = f"{group_home(home)}{hashlib.sha256(buffer.getvalue()).hexdigest()[:16]}.parquet"
    write_bytes(url, buffer.getvalue())
    return url


def read_group(url: str, number: int) -> list[Shard]:
    """Group `number`, from 0, of what `write_groups` wrote; nothing else of the file is read."""
    try:
        rows = open_parquet(url).read_row_group(number).to_pylist()
    except FileNotFoundError:
        raise VlfilterError(f"the plan {url} is gone: run `vlfilter score` again.") from None
    return [Shard(**row) for row in rows]


def drop_groups(url: str) -> None:
    fs, path = filesystem(url)
    fs.rm_file(path)
