"""Select from many rows of score tables: wall, CPU and peak memory of one process, and of DataComp's way beside it.

    python benchmarks/bench_select.py --output select.json [--shards 1000] [--rows 10000] [--baseline]

The rule is `quality_score >= 2.5 and clip_score >= top(30%)` over two scorers; each way runs in a process of its own.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

RULE = "quality_score >= 2.5 and clip_score >= top(30%)"


def make_tables(root: str, shards: int, rows: int) -> None:
    """Synthetic tables as `vlfilter score` writes them: 32-digit uids, float32 scores, one row in a hundred failed."""
    from vlfilter.data.shards import Shard
    from vlfilter.data.tables import Footer, count_statuses, table_schema, table_url, write_table

    random = np.random.default_rng(0)
    for number in range(shards):
        shard = Shard(f"{number:08d}", f"/data/{number:08d}.tar", 1, "1")
        digits = random.bytes(16 * rows).hex()
        failed = random.random(rows) < 0.01
        head = {
            "key": [f"{number:05d}{row:04d}" for row in range(rows)],
            "uid": [digits[32 * row : 32 * row + 32] for row in range(rows)],
        }
        tail = {
            "status": np.where(failed, "corrupt_image", "ok").tolist(),
            "reason": [f"image file is truncated ({row} bytes)" if bad else None for row, bad in enumerate(failed)],
        }
        for scorer, column, values in (
            ("clip_score", "clip_score", random.normal(0.25, 0.05, rows)),
            ("unifilter", "quality_score", random.uniform(0, 5, rows)),
        ):
            scores = pa.array(values.astype(np.float32), mask=failed)
            schema = table_schema(pa.schema([(column, pa.float32())]))
            footer = Footer(shard, scorer, "synthetic", {}, count_statuses(tail["status"]), 1.0)
            write_table(
                table_url(root, scorer, shard.name), pa.table({**head, column: scores, **tail}, schema=schema), footer
            )


def ours(root: str, output: str) -> int:
    from vlfilter.selection.select import select

    return select(root, output, where=RULE).kept


def datacomps(root: str, output: str) -> int:
    """The way of DataComp's baselines: all scores in memory and sorted by numpy, uids packed one by one."""
    import pandas as pd

    clip, unifilter = (sorted((Path(root) / scorer).glob("*.parquet")) for scorer in ("clip_score", "unifilter"))
    everything = np.concatenate([pd.read_parquet(path, columns=["clip_score"])["clip_score"].dropna() for path in clip])
    threshold = -np.sort(-everything)[int(len(everything) * 0.3)]
    parts = []
    for one, other in zip(clip, unifilter, strict=True):
        frame = pd.read_parquet(one, columns=["uid", "clip_score"])
        frame["quality_score"] = pd.read_parquet(other, columns=["quality_score"])["quality_score"]
        frame = frame[(frame["quality_score"] >= 2.5) & (frame["clip_score"] >= threshold)]
        parts.append(np.array([(int(u[:16], 16), int(u[16:32], 16)) for u in frame["uid"]], np.dtype("u8,u8")))
    packed = np.concatenate(parts)
    packed.sort()
    np.save(output, packed)
    return len(packed)


WAYS: dict[str, Callable[[str, str], int]] = {"vlfilter": ours, "datacomp": datacomps}


def measure(way: str, root: str, output: str) -> dict[str, float]:
    """Run one way in a process of its own; wall seconds include the start of Python."""
    began = time.perf_counter()
    command = [sys.executable, __file__, "--way", way, "--tables", root, "--output", output]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    wall = time.perf_counter() - began
    return {"wall_s": round(wall, 3), **json.loads(done.stdout)}


def run_way(way: str, root: str, output: str) -> None:
    kept = WAYS[way](root, output)
    used = resource.getrusage(resource.RUSAGE_SELF)
    peak = used.ru_maxrss * 1024 / 1e6
    print(json.dumps({"cpu_s": round(used.ru_utime + used.ru_stime, 3), "peak_mb": round(peak, 1), "kept": kept}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", required=True, help="the JSON with the results")
    parser.add_argument("--shards", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=10_000, help="a shard")
    parser.add_argument("--baseline", action="store_true", help="DataComp's way too, on the same tables")
    parser.add_argument("--tables", help="tables that are there already, instead of a temporary folder")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        run_way(arguments.way, arguments.tables, arguments.output)
        return
    with tempfile.TemporaryDirectory(prefix="vlfilter-bench-select-") as folder:
        root = arguments.tables or folder
        if not arguments.tables:
            make_tables(root, arguments.shards, arguments.rows)
        ways = [way for way in WAYS if way == "vlfilter" or arguments.baseline]
        results = {way: measure(way, root, f"{folder}/{way}.npy") for way in ways}
    packages = ("vlfilter", "pyarrow", "numpy", "pandas")
    record = {
        "benchmark": "select",
        "rule": RULE,
        "rows": arguments.shards * arguments.rows,
        "machine": {
            "cores": len(os.sched_getaffinity(0)),
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            "python": platform.python_version(),
            **{package: importlib.metadata.version(package) for package in packages},
            "load": round(os.getloadavg()[0], 2),
        },
        "results": results,
    }
    text = json.dumps(record, indent=2)
    Path(arguments.output).write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
