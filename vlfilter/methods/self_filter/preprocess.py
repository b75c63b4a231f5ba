"""Step 0: give each instruction its number, and make the texts and the shards of rows that all later steps read.

`annotations.json` and `text_data.json` are what Self-Filter's own script writes. An entry that it would stop at stays
in the annotations, so that positions are ids, and becomes a row with a reason.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, BinaryIO

import pyarrow as pa

from vlfilter.data.json_lists import stream_list, whole_file
from vlfilter.data.receipts import SUFFIX, file_digest, finished, write_receipt
from vlfilter.data.storage import filesystem, join
from vlfilter.data.tables import count_statuses, read_footer
from vlfilter.errors import VlfilterError
from vlfilter.methods.self_filter.conversations import Row, make_row
from vlfilter.methods.self_filter.row_shards import (
    ANNOTATIONS,
    ROW_SCHEMA,
    ROWS,
    ROWS_PER_SHARD,
    content_digest,
    remove_shards,
    write_shard,
)

CODE_VERSION = 1  # raised by whoever changes what is written
TEXT_DATA = "text_data.json"
WHAT = "conversations (LLaVA's format)"
NUMBER = "unique_idx"


@dataclass(frozen=True, slots=True)
class Preprocessed:
    """What became of `rows` entries: `counts` of each status, with some `examples` of reasons.

    `shards` maps the names of the files to the digests of their rows. Of the rows that are ok, `text_only` have
    no image and the others `images` distinct ones.
    """

    rows: int
    shards: dict[str, str]
    counts: dict[str, int]
    text_only: int
    images: int
    examples: list[str] = field(default_factory=list)


def preprocess(annotations: str, output: str, rows_per_shard: int = ROWS_PER_SHARD) -> Preprocessed:
    """Read the LLaVA list `annotations`, write `output`; a run whose files are all there is not repeated.

    Raises `VlfilterError` when the file is missing, no JSON list, or empty.
    """
    if rows_per_shard < 1:
        raise VlfilterError(f"{rows_per_shard} rows a shard: it takes at least one.")
    target, texts = join(output, ANNOTATIONS), join(output, TEXT_DATA)
    parts = {"code": CODE_VERSION, "source": file_digest(annotations), "rows_per_shard": rows_per_shard}
    summary = finished(target, parts)
    if summary and finished(texts, parts) and _shards_done(output, summary["shards"]):
        return Preprocessed(**summary)
    _withdraw(target)
    with whole_file(target) as numbered, whole_file(texts) as text_data:
        done = _write(annotations, output, rows_per_shard, numbered, text_data)
    remove_shards(join(output, ROWS), list(done.shards))
    write_receipt(texts, parts, {"rows": done.rows})
    # last: later steps take it as the sign that everything is there
    write_receipt(target, parts, asdict(done))
    return done


def _write(annotations: str, output: str, rows_per_shard: int, numbered: BinaryIO, text_data: BinaryIO) -> Preprocessed:
    tally = _Tally()
    waiting: list[Row] = []
    shards: dict[str, str] = {}

    def flush() -> None:
        name = f"{len(shards):05d}"
        table = _table(waiting)
        shards[name] = content_digest(table)
        parts = {"step": "preprocess", "code": CODE_VERSION, "content": shards[name]}
        write_shard(join(output, ROWS, f"{name}.parquet"), table, parts)
        waiting.clear()

    write_entry, write_text = _list_writer(numbered), _object_writer(text_data)
    numbered.write(b"[")
    text_data.write(b"{")
    for number, entry in enumerate(stream_list(annotations, WHAT)):
        row = make_row(number, entry)
        write_entry({**entry, NUMBER: number} if isinstance(entry, dict) else entry)
        if row.text is not None:
            image = {"image": entry["image"]} if "image" in entry else {}
            write_text(number, image | {"text": row.text})
        tally.add(row)
        waiting.append(row)
        if len(waiting) == rows_per_shard:
            flush()
    if waiting:
        flush()
    numbered.write(b"]")
    text_data.write(b"}")
    if not shards:
        raise VlfilterError(f"{annotations} is an empty list: there is nothing to choose from.")
    return tally.result(shards)


class _Tally:
    """What is worth telling about the rows, counted as they pass."""

    def __init__(self) -> None:
        self.statuses: list[str] = []
        self.text_only = 0
        self.images: set[str] = set()
        self.examples: list[str] = []

    def add(self, row: Row) -> None:
        self.statuses.append(row.status)
        if row.reason is None and row.image is not None:
            self.images.add(row.image)
        self.text_only += row.reason is None and row.image is None
        if row.reason is not None and len(self.examples) < 5:
            self.examples.append(f"entry {row.id}: {row.reason}")

    def result(self, shards: dict[str, str]) -> Preprocessed:
        counts = count_statuses(self.statuses)
        return Preprocessed(sum(counts.values()), shards, counts, self.text_only, len(self.images), self.examples)


def _table(rows: list[Row]) -> pa.Table:
    columns = {name: [getattr(row, name) for row in rows] for name in ROW_SCHEMA.names}
    columns["status"] = [str(status) for status in columns["status"]]
    return pa.table(columns, schema=ROW_SCHEMA)


def _list_writer(file: BinaryIO) -> Callable[[Any], None]:
    """Writes entries as `json.dump` writes a list, byte for byte."""
    between = b""

    def write(entry: Any) -> None:
        nonlocal between
        file.write(between + json.dumps(entry).encode())
        between = b", "

    return write


def _object_writer(file: BinaryIO) -> Callable[[int, Any], None]:
    between = b""

    def write(key: int, value: Any) -> None:
        nonlocal between
        file.write(between + f'"{key}": '.encode() + json.dumps(value).encode())
        between = b", "

    return write


def _shards_done(output: str, shards: dict[str, str]) -> bool:
    for name, content in shards.items():
        try:
            footer = read_footer(join(output, ROWS, f"{name}.parquet"))
        except (FileNotFoundError, VlfilterError):
            return False
        if footer.parts.get("content") != content:
            return False
    return True


def _withdraw(target: str) -> None:
    """An older run's sign goes before its shards are replaced."""
    fs, path = filesystem(target + SUFFIX)
    if fs.exists(path):
        fs.rm_file(path)
