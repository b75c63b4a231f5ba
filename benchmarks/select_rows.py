"""Select from 10 million rows of score tables (two scorers, 1,000 shards), beside DataComp's way."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.harness import at_most, cache_folder, last_json, python, run_program, scratch_folder, write_result
from benchmarks.programs.select_rows import RULE
from vlfilter.data.shards import Shard
from vlfilter.data.tables import Footer, count_statuses, table_schema, table_url, write_table

SHARDS, ROWS = 1000, 10_000


def make_tables() -> Path:
    """Tables as `vlfilter score` writes them: 32-digit uids, float32 scores, one row in a hundred failed."""
    folder = cache_folder() / f"tables-v1-{SHARDS}x{ROWS}"
    if folder.is_dir():
        return folder
    unfinished = cache_folder() / f"tables-{os.getpid()}.unfinished"
    random = np.random.default_rng(0)
    for number in range(SHARDS):
        _write_tables(str(unfinished), number, random)
    unfinished.rename(folder)
    return folder


def _write_tables(root: str, number: int, random: np.random.Generator) -> None:
    shard = Shard(f"{number:08d}", f"/data/{number:08d}.tar", 1, "1")
    digits = random.bytes(16 * ROWS).hex()
    failed = random.random(ROWS) < 0.01
    head = {
        "key": [f"{number:05d}{row:04d}" for row in range(ROWS)],
        "uid": [digits[32 * row : 32 * row + 32] for row in range(ROWS)],
    }
    tail = {
        "status": np.where(failed, "corrupt_image", "ok").tolist(),
        "reason": [f"image file is truncated ({row} bytes)" if bad else None for row, bad in enumerate(failed)],
    }
    for scorer, column, values in (
        ("clip_score", "clip_score", random.normal(0.25, 0.05, ROWS)),
        ("unifilter", "quality_score", random.uniform(0, 5, ROWS)),
    ):
        scores = pa.array(values.astype(np.float32), mask=failed)
        schema = table_schema(pa.schema([(column, pa.float32())]))
        footer = Footer(shard, scorer, "synthetic", {}, count_statuses(tail["status"]), 1.0)
        table = pa.table({**head, column: scores, **tail}, schema=schema)
        write_table(table_url(root, scorer, shard.name), table, footer)


def run() -> bool:
    tables = str(make_tables())
    with scratch_folder("select") as place:
        outputs = {way: Path(place) / f"{way}.npy" for way in ("vlfilter", "datacomp")}
        measured, kept = {}, {}
        for way, output in outputs.items():
            measured[way], text = run_program(python("benchmarks.programs.select_rows", way, tables, str(output)))
            kept[way] = last_json(text)["kept"]
        ours, theirs = (np.load(output) for output in outputs.values())
        # Theirs keeps what equals the score at the cut, ours exactly the top fraction: both are right about the rest.
        if not set(ours.tolist()) <= set(theirs.tolist()) or len(theirs) - len(ours) > len(ours) // 1000:
            raise SystemExit(f"the subsets differ: {kept}")
    ours_m, theirs_m = measured["vlfilter"], measured["datacomp"]
    name = "pandas and numpy, DataComp's way"
    wall: dict[str, Any] = {"baseline": round(theirs_m.wall_s, 2), "baseline_name": name}
    peak: dict[str, Any] = {"baseline": round(theirs_m.peak_mb), "baseline_name": name}
    million = SHARDS * ROWS / 1e6
    lines = [
        at_most(f"{million:.0f} million rows, wall", round(ours_m.wall_s, 2), "s", 10, **wall),
        at_most("peak memory", round(ours_m.peak_mb), "MB", 1500, **peak),
    ]
    details = {
        "rule": RULE,
        "rows": SHARDS * ROWS,
        "kept": kept,
        **{way: value.as_json() for way, value in measured.items()},
    }
    return write_result("select_rows", lines, details)


if __name__ == "__main__":
    sys.exit(not run())
