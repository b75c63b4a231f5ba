"""Difficulties that a step, or someone else, wrote: .parquet, or .json with ids as names."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from vlfilter.data.storage import read_bytes
from vlfilter.data.tables import open_parquet
from vlfilter.errors import VlfilterError
from vlfilter.selection.diverse import Difficulty

NAMED = 5
LONGEST_ID = 18  # digits; what is longer may not fit into int64


@dataclass(frozen=True)
class ReadDifficulty:
    """`difficulty` in the file's order, and (id, reason) of the rows that have none."""

    difficulty: Difficulty
    left_out: tuple[tuple[int, str], ...]


def read_difficulty(url: str) -> ReadDifficulty:
    """Difficulties from `{"<id>": number}` in a .json file, or `id` and `difficulty` of a .parquet file, whose rows
    with a `status` other than `ok` are left out with their `reason`.

    Raises `VlfilterError` for a file that cannot be read, for ids and difficulties that are no numbers, an id that
    occurs twice, and a difficulty that is missing, NaN or infinite, with the ids.
    """
    pairs, left_out = _read_parquet(url) if url.endswith(".parquet") else (_read_json(url), ())
    ids = [i for i, _ in pairs]
    seen: set[int] = set()
    if twice := [i for i in ids if i in seen or seen.add(i)]:  # type: ignore[func-returns-value]
        raise VlfilterError(f"{url} has more than one difficulty for {_some(twice)}.")
    if bad := [i for i, value in pairs if value is None or not math.isfinite(value)]:
        raise VlfilterError(f"{url}: the difficulty of {_some(bad)} is missing or no finite number: mend or remove it.")
    values = np.array([value for _, value in pairs], np.float64)
    return ReadDifficulty(Difficulty(np.array(ids, np.int64), values), left_out)


def _some(ids: Iterable[int]) -> str:
    names = list(ids)
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{len(names)} ids: {', '.join(map(str, names[:NAMED]))}{more}"


def _read_json(url: str) -> list[tuple[int, float | None]]:
    try:
        content = json.loads(read_bytes(url).decode("utf-8-sig"), object_pairs_hook=list)  # a dict would hide twins
    except FileNotFoundError:
        raise VlfilterError(f"there is no file {url}.") from None
    except (ValueError, RecursionError) as error:
        raise VlfilterError(f"{url} is no JSON: {error}.") from error
    if not isinstance(content, list) or not all(isinstance(pair, tuple) for pair in content):
        raise VlfilterError(f'{url} should hold one JSON object: {{"<id>": difficulty, …}}.')
    pairs: list[tuple[int, float | None]] = []
    for name, value in content:
        if not (name.isascii() and name.isdigit() and len(name) <= LONGEST_ID):
            raise VlfilterError(f"{url}: {name[:40]!r} is no id; ids are the positions in the annotations, as text.")
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise VlfilterError(f"{url}: the difficulty of {name} is {json.dumps(value)[:40]}, no number.")
        pairs.append((int(name), None if value is None else _float(value)))
    return pairs


def _float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:  # a whole number of more than 308 digits
        return math.inf


def _read_parquet(url: str) -> tuple[list[tuple[int, float | None]], tuple[tuple[int, str], ...]]:
    try:
        with open_parquet(url) as file:
            there = file.schema_arrow.names
            if missing := [name for name in ("id", "difficulty") if name not in there]:
                raise VlfilterError(f"{url} has no column {', '.join(missing)}.")
            table = file.read(columns=[name for name in ("id", "difficulty", "status", "reason") if name in there])
            _check_kinds(table, url)
    except FileNotFoundError:
        raise VlfilterError(f"there is no file {url}.") from None
    except (OSError, pa.ArrowException) as error:
        raise VlfilterError(f"{url} is damaged: {error}.") from error
    ids, values = table["id"].to_pylist(), table["difficulty"].to_pylist()
    statuses = table["status"].to_pylist() if "status" in there else ["ok"] * len(ids)
    reasons = table["reason"].to_pylist() if "reason" in there else [None] * len(ids)
    good, left_out = [], []
    for i, value, status, reason in zip(ids, values, statuses, reasons, strict=True):
        if status == "ok":
            good.append((i, value))
        else:
            left_out.append((i, reason or status))
    return good, tuple(left_out)


def _check_kinds(table: pa.Table, url: str) -> None:
    """Raises `VlfilterError` unless ids are whole numbers, none missing, and difficulties numbers."""
    ids, values = table.schema.field("id").type, table.schema.field("difficulty").type
    if not pa.types.is_integer(ids) or table["id"].null_count:
        raise VlfilterError(f"{url}: the column id should hold whole numbers, none missing; it is {ids}.")
    if not (pa.types.is_floating(values) or pa.types.is_integer(values)):
        raise VlfilterError(f"{url}: the column difficulty should hold numbers, it is {values}.")
