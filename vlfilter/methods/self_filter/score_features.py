"""The three scores as features: CLIP score, ImageReward and the judge's, in this order, each on [-1, 1].

`NNNNN.parquet` has a row for each row of the shard of that name. Rows without a CLIP score or an ImageReward are left
out with a reason; a judge score that is missing becomes the mean of the others, as published, and is counted. Minimum,
maximum, mean and ranks are those of the rows that are kept. All files hang together, so they are made all or none.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from vlfilter.data.feature_files import SCORE_COLUMNS
from vlfilter.data.receipts import finished, write_receipt
from vlfilter.data.samples import SampleError, Status
from vlfilter.data.storage import check_writable, join, write_bytes
from vlfilter.data.tables import TAIL, count_statuses
from vlfilter.errors import VlfilterError
from vlfilter.methods.self_filter.normalising import METHODS, fill_with_mean, normalise
from vlfilter.methods.self_filter.row_shards import RowShard, remove_shards, row_shards, shard_footer, write_shard
from vlfilter.methods.self_filter.score_sources import Source, read_clip, read_column, source_digest

CODE_VERSION = 1  # raised by whoever changes a value
SUMMARY = "summary.json"
SCHEMA = pa.schema([pa.field("id", pa.int64(), False), *(pa.field(n, pa.float64()) for n in SCORE_COLUMNS), *TAIL])


@dataclass(frozen=True, slots=True)
class ScoreInputs:
    """`clip` is a folder of CLIP features, `image_reward` and `judge` are what those steps wrote; each may be a JSON
    file {"<id>": number or null} instead."""

    clip: str
    image_reward: str
    judge: str


@dataclass(frozen=True, slots=True)
class ScoresSummary:
    """`rows` by status; `judge_filled` kept rows got the mean. `ranges` has each score's lowest and highest value
    before it was normalised, `unknown` how many values of each source belong to no row, `examples` some reasons."""

    rows: dict[str, int]
    judge_filled: int
    ranges: dict[str, list[float]]
    unknown: dict[str, int]
    examples: list[str]


def score_features(
    data: str, inputs: ScoreInputs, output: str, method: str = "minmax", work: str | None = None
) -> ScoresSummary:
    """Normalise the scores (`minmax`, as published, or `rank`) and write them; what is done is not done again.

    Large CLIP features are mapped from a file in the local folder `work`. Raises `VlfilterError` when an input is
    missing, not finished, or of other rows, and when a score is the same for all rows.
    """
    if method not in METHODS:
        raise VlfilterError(f"normalising by {method!r} is unknown: {', '.join(METHODS)}.")
    check_writable(output)
    shards = row_shards(data)
    shared = {
        "step": "scores",
        "code": CODE_VERSION,
        "normalise": method,
        "inputs": {name: source_digest(url) for name, url in asdict(inputs).items()},
        "all_rows": [shard.content for shard in shards],
    }
    parts = [shared | {"rows": shard.content} for shard in shards]
    urls = [join(output, f"{shard.name}.parquet") for shard in shards]
    done = finished(join(output, SUMMARY), shared)
    if done and all(shard_footer(url, part) for url, part in zip(urls, parts, strict=True)):
        return ScoresSummary(**done)
    sources = _read_sources(inputs, shards, work)
    problems = _problems(shards, sources)
    columns, filled, ranges = _normalised(sources, problems, method)
    start = 0
    for shard, url, part in zip(shards, urls, parts, strict=True):
        write_shard(url, _table(columns, problems, range(start, start + shard.rows)), part)
        start += shard.rows
    remove_shards(output, [shard.name for shard in shards])
    statuses = [str(problem.status) if problem else str(Status.OK) for problem in problems]
    summary = ScoresSummary(
        {str(status): count for status, count in count_statuses(statuses).items()},
        filled,
        ranges,
        {name: source.unknown for name, source in sources.items()},
        [f"row {i}: {problem.reason}" for i, problem in enumerate(problems) if problem][:5],
    )
    write_bytes(join(output, SUMMARY), json.dumps(asdict(summary), indent=1).encode())
    write_receipt(join(output, SUMMARY), shared, asdict(summary))
    return summary


def _read_sources(inputs: ScoreInputs, shards: Sequence[RowShard], work: str | None) -> dict[str, Source]:
    clip, reward, judge = SCORE_COLUMNS
    return {
        clip: read_clip(inputs.clip, shards, work),
        reward: read_column(inputs.image_reward, reward, shards, "image-reward"),
        judge: read_column(inputs.judge, judge, shards, "judge"),
    }


def _problems(shards: Sequence[RowShard], sources: dict[str, Source]) -> list[SampleError | None]:
    """Why a row is left out, or None, for each row. The judge's score is never the reason."""
    needed = [(name, sources[name]) for name in SCORE_COLUMNS[:2]]
    problems: list[SampleError | None] = []
    for shard in shards:
        rows = shard.read(["status", "reason"]).to_pydict()
        for status, reason in zip(rows["status"], rows["reason"], strict=True):
            problems.append(None if status == Status.OK else SampleError(Status(status), reason))
    for name, source in needed:
        for number in np.flatnonzero(np.isnan(source.values)).tolist():
            if problems[number] is None:
                problems[number] = source.problems.get(number) or SampleError(
                    Status.FAILED, f"there is no {name} for this id"
                )
    return problems


def _normalised(
    sources: dict[str, Source], problems: Sequence[SampleError | None], method: str
) -> tuple[dict[str, np.ndarray], int, dict[str, list[float]]]:
    kept = np.array([problem is None for problem in problems], bool)
    if not kept.any():
        first = next((problem.reason for problem in problems if problem), "")
        raise VlfilterError(f"no row has both a clip_score and an image_reward; the first: {first}.")
    columns: dict[str, np.ndarray] = {}
    ranges: dict[str, list[float]] = {}
    filled = 0
    for name, source in sources.items():
        values = source.values[kept]
        if name == SCORE_COLUMNS[2]:
            values, filled = fill_with_mean(values, name)
        ranges[name] = [float(values.min()), float(values.max())]
        columns[name] = np.full(len(kept), np.nan)
        columns[name][kept] = normalise(values, method, name)
    return columns, filled, ranges


def _table(columns: dict[str, np.ndarray], problems: Sequence[SampleError | None], rows: range) -> pa.Table:
    part = slice(rows.start, rows.stop)
    found: dict[str, Any] = {"id": list(rows)}
    # a left-out row's NaN becomes null
    found |= {name: pa.array(values[part], pa.float64(), from_pandas=True) for name, values in columns.items()}
    found["status"] = [str(problem.status if problem else Status.OK) for problem in problems[part]]
    found["reason"] = [problem.reason if problem else None for problem in problems[part]]
    return pa.table(found, schema=SCHEMA)
