"""The shards of instruction rows that `preprocess` writes, and the Parquet files that later steps make of each.

`<data>/rows/NNNNN.parquet` holds `id` (position in the annotations), `image` (path or null), `text`, `status` and
`reason`. A step writes one file of the same name for each. It is done when it lies complete in its place and its footer
matches what would be computed now; the rows count by their content, so that a moved or repeated run stays done.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from vlfilter.data.receipts import SUFFIX
from vlfilter.data.shards import Shard
from vlfilter.data.storage import filesystem, join, read_bytes
from vlfilter.data.tables import (
    FORMAT,
    TAIL,
    Footer,
    count_statuses,
    digest,
    list_tables,
    open_parquet,
    read_footer,
    write_table,
)
from vlfilter.errors import VlfilterError

ROWS_PER_SHARD = 8192
ROWS = "rows"
ANNOTATIONS = "annotations.json"
ROW_SCHEMA = pa.schema(
    [pa.field("id", pa.int64(), False), pa.field("image", pa.string()), pa.field("text", pa.string()), *TAIL]
)


@dataclass(frozen=True, slots=True)
class RowShard:
    """One file of rows. `content` is the digest of its rows, `counts` how many have which status."""

    name: str
    url: str
    content: str
    counts: Mapping[str, int]

    @property
    def rows(self) -> int:
        return sum(self.counts.values())

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Its rows in order of id, all columns or some."""
        try:
            with open_parquet(self.url) as file:
                return file.read(columns=None if columns is None else list(columns))
        except (OSError, pa.ArrowException) as error:
            raise VlfilterError(f"{self.url} is damaged ({error}): run `self-filter preprocess` again.") from error


def row_shards(data: str) -> list[RowShard]:
    """The shards below `data`, the folder that `preprocess` wrote (or the one above it), in order.

    Raises `VlfilterError` when preprocessing has not been done, or not to its end.
    """
    folder = data
    receipt = _receipt(folder)
    if receipt is None:
        folder = join(data, "preprocess")
        receipt = _receipt(folder)
    if receipt is None:
        raise VlfilterError(f"{data} holds no finished preprocessing: run `vlfilter self-filter preprocess` first.")
    present = list_tables(folder, ROWS)
    shards = []
    for name in receipt["shards"]:
        if name not in present:
            raise VlfilterError(f"{folder}/{ROWS}/{name}.parquet is gone: run `vlfilter self-filter preprocess` again.")
        url = join(folder, ROWS, f"{name}.parquet")
        footer = read_footer(url)
        shards.append(RowShard(name, url, str(footer.parts["content"]), footer.counts))
    return shards


def content_digest(table: pa.Table) -> str:
    """A hash of the values of a table of rows."""
    state = hashlib.sha256()
    for row in zip(*(table[name].to_pylist() for name in ROW_SCHEMA.names), strict=True):
        state.update(json.dumps(row, separators=(",", ":")).encode())
    return state.hexdigest()[:32]


def shard_footer(url: str, parts: Mapping[str, Any]) -> Footer | None:
    """The footer of the file at `url` if it is complete and was made from `parts`, else None: it is to be made."""
    try:
        footer = read_footer(url)
    except (FileNotFoundError, VlfilterError):
        return None
    return footer if footer.format == FORMAT and footer.fingerprint == digest(parts) else None


def write_shard(url: str, table: pa.Table, parts: Mapping[str, Any], seconds: float = 0.0) -> Footer:
    """Write a table that has a column `status`, atomically, with what made it (`parts`, as JSON) in its footer."""
    folder, _, file = url.rpartition("/")
    step = folder.rpartition("/")[2]
    name = file.removesuffix(".parquet")
    # a file that is made from rows, or from several inputs, is told apart by `parts`; there is no tar behind it
    shard = Shard(name, "", 0, "")
    counts = count_statuses(table["status"].to_pylist())
    footer = Footer(shard, step, digest(parts), dict(parts), counts, round(seconds, 3))
    write_table(url, table, footer)
    return footer


def remove_shards(folder: str, keep: Sequence[str]) -> None:
    """Delete the Parquet files in `folder` whose names are not among `keep`: leftovers of other input."""
    parent, _, name = folder.rstrip("/").rpartition("/")
    for stale in list_tables(parent, name).keys() - set(keep):
        fs, path = filesystem(join(folder, f"{stale}.parquet"))
        fs.rm_file(path)


def _receipt(folder: str) -> dict[str, Any] | None:
    """What `preprocess` says of its run, written when all its files lay in their places."""
    try:
        summary: dict[str, Any] = json.loads(read_bytes(join(folder, ANNOTATIONS + SUFFIX)))["summary"]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError):
        return None
    return summary
