"""The footers of a scorer's tables in one file, so that 100,000 tables need not be opened to see that they are done.

A footer is kept with the version of the table it was read from, as a listing shows it. It counts only while the two
agree, so the file proves nothing by itself, and may be old, damaged or gone.
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Mapping
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


def read_footers(output: str, scorer: str, versions: Mapping[str, str]) -> Known:
    """The footers that are kept, of those tables that still have the same version."""
    try:
        table = pq.read_table(io.BytesIO(read_bytes(join(output, scorer, FILE))))
        parts = cache(json.loads)  # tables of one scorer share theirs, which would be most of the memory
        known: Known = {}
        for batch in table.to_batches(max_chunksize=1024):
            for row in batch.to_pylist():
                if versions.get(row["name"]) == row["version"]:
                    fields = json.loads(row["footer"])
                    shard, warnings = Shard(**fields.pop("shard")), tuple(fields.pop("warnings"))
                    footer = Footer(**fields, shard=shard, warnings=warnings, parts=parts(row["parts"]))
                    known[row["name"]] = (row["version"], footer)
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
