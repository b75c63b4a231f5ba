"""The benchmarks' files as rows: JSON, JSON lines, TSV and Parquet. A line that is none of it is a counted row."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vlfilter.data.aokvqa import BadRow
from vlfilter.data.receipts import exists
from vlfilter.data.storage import filesystem, join, read_bytes
from vlfilter.errors import VlfilterError
from vlfilter.evaluation.benchmarks.base import Question, Reading

Row = dict[str, Any]
LONGEST_CELL = 2**31 - 1  # images lie in cells


def find_file(place: str, names: Sequence[str], what: str) -> str:
    """`place` itself if it is a file, else the first of `names` in it. Raises `VlfilterError` naming them."""
    if not place:
        raise VlfilterError(f"no place of {what} is given: a file, or a folder with {' or '.join(names)}.")
    fs, path = filesystem(place)
    if not fs.isdir(path):
        if not fs.exists(path):
            raise VlfilterError(f"there is no {what} at {place}.")
        return place
    for name in names:
        if exists(join(place, name)):
            return join(place, name)
    raise VlfilterError(f"{place} holds no {what}: {' or '.join(names)}.")


def beside(data: str, names: Sequence[str]) -> str:
    """The first of `names` in the folder `data`, or in that of the file `data`; "" if none is there."""
    fs, path = filesystem(data)
    folder = data if fs.isdir(path) else data.rpartition("/")[0] or "."
    return next((join(folder, name) for name in names if exists(join(folder, name))), "")


def read_json(url: str) -> Any:
    """Raises `VlfilterError` for a file that is missing or no JSON."""
    try:
        return json.loads(_bytes(url))
    except (ValueError, RecursionError) as error:
        raise VlfilterError(f"{url} is not a JSON file: {error}") from None


def read_rows(url: str, inside: str = "") -> list[Row | BadRow]:
    """The rows of a file by its ending: `.jsonl`, `.tsv`, `.parquet`, else JSON: a list, or an object that holds one
    under the name `inside`. Raises `VlfilterError` for a file that is missing or none of these."""
    if url.endswith(".tsv"):
        return _tsv(_bytes(url), url)
    if url.endswith(".jsonl"):
        lines = [(at, line) for at, line in enumerate(_bytes(url).split(b"\n"), 1) if line.strip()]
        return [_line(number, at, line) for number, (at, line) in enumerate(lines)]
    if url.endswith(".parquet"):
        try:
            rows: list[Row | BadRow] = pq.read_table(io.BytesIO(_bytes(url))).to_pylist()
        except pa.ArrowException as error:
            raise VlfilterError(f"{url} is not a Parquet file: {error}") from None
        return rows
    found = read_json(url)
    if isinstance(found, dict) and inside:
        found = found.get(inside)
    if not isinstance(found, list):
        held = f" or an object with such a list as {inside!r}" if inside else ""
        raise VlfilterError(f"{url} is not a JSON list of questions{held}.")
    return [entry if isinstance(entry, dict) else _bad(i, entry, "the row is not an object")
            for i, entry in enumerate(found)]  # fmt: skip


def collect(rows: Iterable[Row | BadRow], parse: Callable[[int, Row], Question | Sequence[Question]]) -> Reading:
    """Questions of rows. What `parse` says by `ValueError`, and an id that another question has, makes a bad row."""
    reading = Reading([], [])
    seen: dict[str, int] = {}
    for number, row in enumerate(rows):
        if isinstance(row, BadRow):
            reading.bad.append(row)
            continue
        try:
            parsed = parse(number, row)
            made = [parsed] if isinstance(parsed, Question) else list(parsed)
            for question in made:
                if question.item.key in seen:
                    raise ValueError(f"its id {question.item.key} is that of row {seen[question.item.key]}")
        except ValueError as error:
            reading.bad.append(_bad(number, row, str(error)))
            continue
        seen.update((question.item.key, number) for question in made)
        reading.questions.extend(made)
    return reading


def text_of(row: Row, *names: str) -> str:
    """The first of these fields that is there. Raises `ValueError` when none is, or it is no text or empty."""
    name = next((name for name in names if row.get(name) is not None), None)
    if name is None:
        raise ValueError(f"it has no {names[0]}")
    value = row[name]
    if not isinstance(value, str):
        raise ValueError(f"{name} is not a text")
    if not value.strip():
        raise ValueError(f"{name} is empty")
    return value


def id_of(row: Row, name: str) -> str:
    """An id as text; numbers in quotes are the numbers. Raises `ValueError` when it is neither text nor number."""
    value = row.get(name)
    if value is None or value == "":
        raise ValueError(f"it has no {name}")
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"{name} is neither a text nor a whole number")
    return str(as_number(value))


def as_number(value: int | str) -> int | str:
    """A number in quotes as a number, any other text as it is; as the published converters take ids."""
    try:
        return int(value)
    except ValueError:
        return value


def _bytes(url: str) -> bytes:
    try:
        return read_bytes(url)
    except FileNotFoundError:
        raise VlfilterError(f"there is no file {url}.") from None


def _line(number: int, at: int, line: bytes) -> Row | BadRow:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return _bad(number, line[:200].decode("utf-8", "replace"), f"line {at} is no JSON: {error}")
    return value if isinstance(value, dict) else _bad(number, value, f"line {at} is no JSON object")


def _tsv(data: bytes, url: str) -> list[Row | BadRow]:
    """Cells are texts as they stand: an empty cell is "", and None, NA or nan are words."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise VlfilterError(f"{url} is not a text in UTF-8: {error.reason}.") from None
    csv.field_size_limit(LONGEST_CELL)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter="\t")
    header = next(rows, [])
    if len(header) < 2:
        raise VlfilterError(f"{url} has no header of columns between tabs.")
    found: list[Row | BadRow] = []
    for number, cells in enumerate(row for row in rows if row):
        if len(cells) == len(header):
            found.append(dict(zip(header, cells, strict=True)))
        else:
            found.append(_bad(number, cells[:1], f"it has {len(cells)} cells, the header {len(header)}"))
    return found


def _bad(number: int, row: Any, reason: str) -> BadRow:
    known = ("question_id", "index", "image") if isinstance(row, dict) else ()
    name = next((str(row[name]) for name in known if isinstance(row.get(name), str | int)), "")
    return BadRow(number, name[:80], reason, row)
