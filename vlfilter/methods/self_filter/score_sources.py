"""Where the three scores come from: folders of Parquet shards that our steps wrote, or JSON files {"<id>": number}."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vlfilter.data.feature_files import IMAGES, TEXTS
from vlfilter.data.features import open_features
from vlfilter.data.listing import below, lookup
from vlfilter.data.receipts import file_digest
from vlfilter.data.samples import SampleError, Status
from vlfilter.data.storage import absolute, join, read_bytes
from vlfilter.data.tables import digest, open_parquet, read_footer
from vlfilter.errors import VlfilterError
from vlfilter.methods.self_filter.clip_features import clip_problems, clip_scores
from vlfilter.methods.self_filter.row_shards import RowShard

JSON = ".json"
LONGEST_ID = 18  # digits; no row has a longer one
LARGEST = sys.float_info.max  # whole numbers in JSON may be larger


@dataclass(frozen=True)
class Source:
    """One score of rows 0 … N-1: `values` (N,), NaN where there is none; `problems` tells why, where more is known.

    `unknown` counts what is there for other ids.
    """

    values: npt.NDArray[np.float64]
    problems: dict[int, SampleError] = field(default_factory=dict)
    unknown: int = 0


def read_clip(url: str, shards: Sequence[RowShard], work: str | None = None) -> Source:
    """CLIP scores from a JSON file, or as the product of the halves in a folder of CLIP features."""
    if url.endswith(JSON):
        return _read_json(url, shards, "clip_score")
    _check_shards(join(url, TEXTS), shards, "features --kind clip")
    _check_shards(join(url, IMAGES), shards, "features --kind clip", rows=False)
    values = _none(shards)
    features = open_features(url, work)
    for start, block in features.blocks():
        values[features.ids[start : start + len(block)]] = clip_scores(block)
    names = [f"{shard.name}.parquet" for shard in shards]
    return Source(values, clip_problems([(join(url, TEXTS, name), join(url, IMAGES, name)) for name in names]))


def read_column(url: str, column: str, shards: Sequence[RowShard], command: str) -> Source:
    """The column `column` of a folder's shards, or a JSON file. `command` is what makes the folder."""
    if url.endswith(JSON):
        return _read_json(url, shards, column)
    _check_shards(url, shards, command)
    values = _none(shards)
    problems: dict[int, SampleError] = {}
    seen = np.zeros(len(values), bool)
    unknown = 0
    for shard in shards:
        ids, found, statuses, reasons = _columns(join(url, f"{shard.name}.parquet"), column)
        for number, value, status, reason in zip(ids, found, statuses, reasons, strict=True):
            if not 0 <= number < len(values):
                unknown += 1
                continue
            if seen[number]:
                raise VlfilterError(f"{url} holds a {column} for id {number} twice.")
            seen[number] = True
            if status == Status.OK and value is not None and math.isfinite(value):
                values[number] = value
            else:
                known = reason or f"its {column} is {value}"
                problems[number] = SampleError(Status.FAILED if status == Status.OK else Status(status), known)
    return Source(values, problems, unknown)


def source_digest(url: str) -> str:
    """What tells one source's content from another's: a JSON file's bytes; names, sizes and versions of shards.

    Raises `VlfilterError` when there is no such file or folder.
    """
    if url.endswith(JSON):
        return file_digest(url)
    base = absolute(url).rstrip("/")
    if not lookup([base])[1]:
        raise VlfilterError(f"there is no folder {url}: give one that a step wrote, or a .json file of scores.")
    files = sorted((found.url.removeprefix(base), found.size, found.version) for found in below(base, (".parquet",)))
    return digest({"files": files})


def _none(shards: Sequence[RowShard]) -> npt.NDArray[np.float64]:
    return np.full(sum(shard.rows for shard in shards), np.nan)


def _check_shards(folder: str, shards: Sequence[RowShard], command: str, rows: bool = True) -> None:
    """Raises `VlfilterError` unless there is a whole file for each shard, made (where it says so) from these rows."""
    again = f"run `vlfilter self-filter {command}` on these rows first."
    for shard in shards:
        try:
            footer = read_footer(join(folder, f"{shard.name}.parquet"))
        except (FileNotFoundError, NotADirectoryError):
            raise VlfilterError(
                f"{folder} has no {shard.name}.parquet, so it is not finished (or not there): {again}"
            ) from None
        if rows and footer.parts.get("rows", shard.content) != shard.content:
            raise VlfilterError(f"{folder}/{shard.name}.parquet was made from other rows: {again}")


def _columns(url: str, column: str) -> tuple[list[Any], list[Any], list[Any], list[Any]]:
    try:
        with open_parquet(url) as file:
            if column not in file.schema_arrow.names:
                raise VlfilterError(f"{url} has no column {column}: is it another step's folder?")
            table = file.read(columns=["id", column, "status", "reason"])
    except (OSError, pa.ArrowException) as error:
        raise VlfilterError(f"{url} is damaged: {error}") from error
    ids, found, statuses, reasons = (table[name].to_pylist() for name in ("id", column, "status", "reason"))
    return ids, found, statuses, reasons


def _read_json(url: str, shards: Sequence[RowShard], column: str) -> Source:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise VlfilterError(f"{url} holds id {twice} twice.")
        return found

    try:
        given = json.loads(read_bytes(url), object_pairs_hook=once)
    except FileNotFoundError:
        raise VlfilterError(f"there is no file {url}.") from None
    except (ValueError, RecursionError) as error:
        raise VlfilterError(f"{url} is not a JSON file: {error}") from error
    if not isinstance(given, dict):
        raise VlfilterError(f'{url} should hold one JSON object, {{"<id>": number}}.')
    values = _none(shards)
    problems: dict[int, SampleError] = {}
    unknown = 0
    for key, value in given.items():
        if not (key.isascii() and key.isdigit()) or (len(key) > 1 and key[0] == "0"):
            raise VlfilterError(f"{url}: {key[:40]!r} is no id; ids are positions in the annotations, from 0.")
        number = int(key) if len(key) <= LONGEST_ID else len(values)
        if number >= len(values):
            unknown += 1
        elif isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST:
            values[number] = value
        else:
            problems[number] = SampleError(Status.FAILED, f"its {column} in {url} is {value!r:.60}, no finite number")
    return Source(values, problems, unknown)
