"""The footers of a scorer's tables in one file, so that 100,000 tables need not be opened to see that they are done.

A footer is kept with the version of the table it was read from, as a listing shows it. It counts only while the two
agree, so the file proves nothing by itself, and may be old, damaged or gone.
"""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import cache

import pyarrow as pa
import pyarrow.parquet as pq

from vlfilter.data.shards import Shard
from vlfilter.data.storage import join, read_bytes, write_bytes
from vlfilter.data.tables import Footer

log = logging.getLogger(__name__)
FILE = ".footers.parquet"  # hidden, so that nobody takes it for a shard's table
Known = dict[str, tuple[str, Footer]]  # shard name → (the table's version, its footer)


def read_footers(output: str, scorer: str, versions: Mapping[str, str], shards: Iterable[Shard]) -> Known:
    """The footers that are kept, of those tables that still have the same version. `shards` are shared where they are
    the same: with 100,000 tables what they have in common is most of the memory."""
    try:
        file = pq.ParquetFile(io.BytesIO(read_bytes(join(output, scorer, FILE))))
        parts, same = cache(json.loads), {shard: shard for shard in shards}
        known: Known = {}
        for batch in file.iter_batches(1024):
            for row in batch.to_pylist():
                if versions.get(row["name"]) == row["version"]:
                    fields = json.loads(row["footer"])
                    kept, warnings = Shard(**fields.pop("shard")), tuple(fields.pop("warnings"))
                    fields |= {name: sys.intern(fields[name]) for name in ("scorer", "fingerprint")}
                    shard = same.get(kept, kept)
                    footer = Footer(**fields, shard=shard, warnings=warnings, parts=parts(row["parts"]))
                    known[row["name"]] = (versions[row["name"]], footer)
        return known
    except FileNotFoundError:
        return {}
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        log.warning("the footers kept in %s cannot be used (%s): the tables are opened", join(output, scorer), error)
        return {}


def write_footers(output: str, scorer: str, known: Known) -> None:
    """Keep them all; an output that cannot be written is no reason to stop."""
    columns: dict[str, list[str]] = {"name": [], "version": [], "footer": [], "parts": []}
    for name, (version, footer) in known.items():
        fields = asdict(footer)
        row = {"name": name, "version": version, "parts": json.dumps(fields.pop("parts")), "footer": json.dumps(fields)}
        for column, value in row.items():
            columns[column].append(value)
    table = pa.table({column: pa.array(values, pa.string()) for column, values in columns.items()})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    try:
        write_bytes(join(output, scorer, FILE), buffer.getvalue())
    except Exception as error:  # object stores raise their own families of errors
        log.warning("the footers of %s are not kept: %s", join(output, scorer), error)
