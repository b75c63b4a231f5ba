"""The engine's own tables (Parquet, one row for everything that went into a step) and lines of JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vlfilter.data.storage import read_bytes, write_bytes
from vlfilter.errors import VlfilterError


def write_records(url: str, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> None:
    """Same bytes for the same rows; half a character (a lone surrogate), which Parquet cannot hold, becomes `?`."""
    table = pa.Table.from_pylist([_storable(row) for row in rows], schema=schema)
    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd")
    write_bytes(url, file.getvalue())


def read_records(url: str, schema: pa.Schema) -> list[dict[str, Any]]:
    """Raises `FileNotFoundError`, and `VlfilterError` for a file that has not these columns."""
    try:
        table = pq.read_table(io.BytesIO(read_bytes(url)))
        rows: list[dict[str, Any]] = table.select(schema.names).cast(schema).to_pylist()
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise VlfilterError(f"{url} is not a table that this step writes ({type(error).__name__}: {error}).") from error
    return rows


def storable(text: str) -> str:
    """The text with `?` for every lone surrogate, which UTF-8 has no bytes for."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, Mapping):
        return {name: _storable(entry) for name, entry in value.items()}
    return [_storable(entry) for entry in value] if isinstance(value, list | tuple) else value


def read_json_list(url: str, what: str, made_by: str) -> list[Any]:
    """The entries of a JSON list. Raises `VlfilterError`: `what` names the entries, `made_by` the step before."""
    try:
        found = json.loads(read_bytes(url))
    except FileNotFoundError:
        raise VlfilterError(f"there is no file {url}: {made_by} writes one.") from None
    except (ValueError, RecursionError) as error:
        raise VlfilterError(f"{url} is not a JSON file: {error}") from None
    if not isinstance(found, list):
        raise VlfilterError(f"{url} is not a JSON list of {what}.")
    return found


def read_lines(url: str, made_by: str) -> list[Any]:
    """The values of a file of JSON lines; the text of a line itself where it is no JSON. Blank lines are left out."""
    try:
        data = read_bytes(url)
    except FileNotFoundError:
        raise VlfilterError(f"there is no file {url}: {made_by} writes one.") from None
    lines = (line.decode("utf-8", "replace") for line in data.split(b"\n") if line.strip())
    return [_value(line) for line in lines]


def _value(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return line


def write_lines(url: str, rows: Iterable[Any]) -> None:
    """JSON lines, as the original's, whole or not at all."""
    write_bytes(url, "".join(json.dumps(row) + "\n" for row in rows).encode())
