"""Self-Filter's diverse selection (gamma 1, 10 neighbours): beside a plain port of the described procedure at 20,000
rows on one thread, and alone as `vlfilter self-filter select` at the published size and at two million rows.

Rows are pairs of unit halves, as of CLIP; every other row shares its image half with another. Difficulties are normal.
The port and ours are timed from features in memory to the order; the two large runs whole, imports and reading too.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.harness import (
    Line,
    at_least,
    at_most,
    cache_folder,
    last_json,
    python,
    run_program,
    scratch_folder,
    write_result,
)

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
PORT = 20_000, 1536, 3_333
PUBLISHED = 157_712, 1536, 25_000
LARGE = 2_000_000, 64, 5_000
BLOCK = 50_000


def make_data(rows: int, dim: int) -> Path:
    """features.npz, features.npy, difficulty.npy and difficulty.parquet, the same on every machine."""
    folder = cache_folder() / f"diverse-v1-{rows}x{dim}"
    if folder.is_dir():
        return folder
    unfinished = cache_folder() / f"diverse-{os.getpid()}.unfinished"
    unfinished.mkdir()
    random = np.random.default_rng(0)
    half = dim // 2
    features = np.empty((rows, dim), np.float32)
    for start in range(0, rows, BLOCK):
        block = features[start : start + BLOCK]
        images = _units(random, (len(block) + 1) // 2, half)
        block[:, :half] = np.repeat(images, 2, axis=0)[: len(block)]
        block[:, half:] = _units(random, len(block), half)
    values = random.standard_normal(rows)
    np.save(unfinished / "features.npy", features)
    np.savez(unfinished / "features.npz", features=features)
    np.save(unfinished / "difficulty.npy", values)
    pq.write_table(pa.table({"id": np.arange(rows), "difficulty": values}), unfinished / "difficulty.parquet")
    unfinished.rename(folder)
    return folder


def _units(random: np.random.Generator, rows: int, dim: int) -> np.ndarray:
    block = random.standard_normal((rows, dim), dtype=np.float32)
    return block / np.linalg.norm(block, axis=1, keepdims=True)


def beside_port() -> tuple[list[Line], dict[str, Any]]:
    """The ratio of both, wall and CPU. Ends the program when the orders differ."""
    rows, dim, picks = PORT
    data = make_data(rows, dim)
    seconds, orders = {}, {}
    with scratch_folder("diverse") as place:
        for way in ("diverse_select", "diverse_port"):
            output = Path(place) / f"{way}.npy"
            arguments = [str(data / "features.npy"), str(data / "difficulty.npy"), str(picks), str(output)]
            _, text = run_program(python(f"benchmarks.programs.{way}", *arguments), ONE_THREAD, timeout=3600)
            seconds[way], orders[way] = last_json(text), np.load(output)
    if not np.array_equal(*orders.values()):
        first = int(np.flatnonzero(orders["diverse_select"] != orders["diverse_port"])[0])
        raise SystemExit(f"the orders differ from pick {first} on")
    ours, port = seconds["diverse_select"], seconds["diverse_port"]
    name = f"{rows:,} rows of {dim:,}, {picks:,} picks, one thread, same order"
    lines = [
        at_least(f"{name}: times as fast, CPU", round(port["cpu_s"] / ours["cpu_s"], 1), "×", 50),
        at_least(f"{name}: times as fast, wall", round(port["wall_s"] / ours["wall_s"], 1), "×", 50),
        Line(
            f"{name}: CPU",
            round(ours["cpu_s"], 2),
            "s",
            baseline=round(port["cpu_s"], 1),
            baseline_name="plain port in torch",
        ),
    ]
    return lines, seconds


def alone(size: tuple[int, int, int], most_s: float | None, most_mb: float) -> tuple[list[Line], dict[str, Any]]:
    """The whole command on all cores."""
    rows, dim, picks = size
    data = make_data(rows, dim)
    with scratch_folder("diverse") as place:
        command = python("benchmarks.programs.vlfilter_command", "self-filter", "select")
        command += ["--features", str(data / "features.npz"), "--difficulty", str(data / "difficulty.parquet")]
        command += ["--budget", str(picks), "--output", str(Path(place) / "picks.parquet")]
        measured, _ = run_program(command, timeout=3600)
        if pq.read_metadata(Path(place) / "picks.parquet").num_rows != picks:
            raise SystemExit(f"{rows}: not all were picked")
    name = f"{rows:,} rows of {dim:,}, {picks:,} picks, the command"
    wall = round(measured.wall_s, 1)
    lines = [
        at_most(f"{name}: wall", wall, "s", most_s) if most_s else Line(f"{name}: wall", wall, "s"),
        at_most(f"{name}: peak memory", round(measured.peak_mb), "MB", most_mb),
    ]
    return lines, measured.as_json()


def run() -> bool:
    lines, details = [], {}
    for name, (more, measured) in {
        "port": beside_port(),
        "published": alone(PUBLISHED, 240, 4000),
        "large": alone(LARGE, None, 6000),
    }.items():
        lines += more
        details[name] = measured
    return write_result("diverse_selection", lines, details)


if __name__ == "__main__":
    sys.exit(not run())
