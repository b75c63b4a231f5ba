"""Score tables: one Parquet file a shard and scorer, whose footer says which input, weights and code made it.

Layout: `<output>/<scorer>/<shard name>.parquet`, one row a sample in tar order with `key`, `uid`, the scorer's columns,
`status` and `reason`. A shard is done when its table lies complete in its place and its footer matches what would be
computed now; nothing else is proof.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vlfilter import __version__
from vlfilter.data.listing import below
from vlfilter.data.samples import Status
from vlfilter.data.shards import Shard
from vlfilter.data.storage import filesystem, is_local, join, write_bytes
from vlfilter.errors import StorageError, VlfilterError

FOOTER_KEY = b"vlfilter"
FORMAT = 1
HEAD = (pa.field("key", pa.string()), pa.field("uid", pa.string()))
TAIL = (pa.field("status", pa.string()), pa.field("reason", pa.string()))


def table_schema(columns: pa.Schema) -> pa.Schema:
    return pa.schema([*HEAD, *columns, *TAIL])


def digest(parts: Mapping[str, Any]) -> str:
    """A hash of JSON values that does not depend on the order of their keys."""
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Footer:
    """Where a table comes from. `fingerprint` is the digest of `parts`, the scorer's fingerprint in clear; `made` tells
    when (UTC, ISO 8601), "" in tables from before it was kept."""

    shard: Shard
    scorer: str
    fingerprint: str
    parts: Mapping[str, Any]
    counts: Mapping[str, int]
    seconds: float
    warnings: tuple[str, ...] = ()
    version: str = __version__
    format: int = FORMAT
    made: str = ""

    @property
    def rows(self) -> int:
        return sum(self.counts.values())

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Footer:
        fields = json.loads(data)
        return cls(**{**fields, "shard": Shard(**fields["shard"]), "warnings": tuple(fields["warnings"])})


def count_statuses(statuses: Iterable[str]) -> dict[str, int]:
    counts = Counter(str(status) for status in statuses)
    return {status: counts[status] for status in Status if counts[status]}


def table_url(output: str, scorer: str, shard_name: str) -> str:
    return join(output, scorer, f"{shard_name}.parquet")


def write_table(url: str, table: pa.Table, footer: Footer) -> None:
    """Write a table with its footer, atomically. Raises `VlfilterError` when the place cannot be written."""
    buffer = io.BytesIO()
    metadata = {**(table.schema.metadata or {}), FOOTER_KEY: footer.to_json()}
    pq.write_table(table.replace_schema_metadata(metadata), buffer, compression="zstd")
    write_bytes(url, buffer.getvalue())


def open_parquet(url: str) -> pq.ParquetFile:
    fs, path = filesystem(url)
    # Range reads only: Parquet knows what it needs, and a read-ahead block would cost more than the footer.
    source = path if is_local(url) else fs.open(path, "rb", cache_type="none")
    return pq.ParquetFile(source, memory_map=False)


def read_footer(url: str) -> Footer:
    """Raises `FileNotFoundError` when there is no table, `StorageError` when it cannot be read now, and `VlfilterError`
    when it is torn or not one of ours."""
    try:
        metadata = open_parquet(url).metadata
        footer = Footer.from_json((metadata.metadata or {})[FOOTER_KEY])
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOTDIR:  # a file stands where its folder would
            raise FileNotFoundError(url) from error
        if isinstance(error, OSError) and error.errno is not None:  # storage's own; Parquet's about its bytes have none
            raise StorageError(f"{url} cannot be read now ({error})") from error
        raise VlfilterError(f"{url} is no complete score table ({type(error).__name__}: {error})") from error
    except Exception as error:  # object stores raise their own families of errors
        raise StorageError(f"{url} cannot be read now ({type(error).__name__}: {error})") from error
    if metadata.num_rows != footer.rows:
        raise VlfilterError(f"{url} holds {metadata.num_rows} rows, its footer says {footer.rows}")
    return footer


def list_tables(output: str, scorer: str) -> dict[str, str]:
    """The shards that have a table of this scorer, whatever its state, each with a text that changes when the table
    does."""
    fs, path = filesystem(join(output, scorer))
    if not fs.exists(path):
        return {}
    root = path if is_local(output) else fs.unstrip_protocol(path)
    found = below(root, (".parquet",))
    return {f.url[len(root) :].lstrip("/").removesuffix(".parquet"): f"{f.size} {f.version}" for f in found}


def list_scorers(output: str) -> list[str]:
    """The scorers that have tables below `output`."""
    fs, path = filesystem(output)
    if not fs.exists(path):
        return []
    entries = fs.ls(path, detail=True)
    names = [e["name"].rstrip("/").rsplit("/", 1)[-1] for e in entries if e["type"] == "directory"]
    return sorted(name for name in names if not name.startswith(".") and list_tables(output, name))
