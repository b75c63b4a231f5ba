"""Curves: a run over 10, 100 and 1,000 shards with Prefect and without, one and two workers, a selection from 10,000 to
10 million rows; time and memory of each.

What Prefect costs a shard is the CPU time that the command line needs for one more shard, less what the engine alone
needs for it. The shards are small and their scorer has no model, so that there is little else.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.clip_score import parameters as clip_parameters
from benchmarks.data import make_shards, repeat_shards
from benchmarks.harness import (
    QUIET,
    ROOT,
    Line,
    Measured,
    at_most,
    cache_folder,
    last_json,
    python,
    run_program,
    scratch_folder,
    write_result,
)
from benchmarks.select_rows import ROWS, make_tables

SHARDS, SAMPLES, DIFFERENT = (10, 100, 1000), 4, 10
WORKERS, WORKER_SHARDS, WORKER_SAMPLES = (1, 2), 8, 250
TABLES = (1, 10, 100, 1000)  # of 10,000 rows
SCORER = "injection"
ONE = {"OMP_NUM_THREADS": "1"}  # a worker of this benchmark has one core


def shard_curve(scratch: Path) -> dict[str, dict[int, Measured]]:
    """The engine's accounts and the command line's, by the number of shards."""
    found: dict[str, dict[int, Measured]] = {"engine": {}, "command line": {}}
    source = make_shards(DIFFERENT, SAMPLES)
    for count in SHARDS:
        folder = repeat_shards(source, count // DIFFERENT, scratch / f"shards-{count}")
        fields = {"shards": [str(folder)], "output": str(scratch / f"engine-{count}"), "scorer": [SCORER]}
        found["engine"][count] = run_program(python("benchmarks.programs.score_engine", json.dumps(fields)))[0]
        command = [str(Path(sys.executable).with_name("vlfilter")), "score", "--shards", str(folder)]
        command += ["--output", str(scratch / f"flow-{count}"), "--scorer", SCORER]
        env = {"PREFECT_HOME": str(cache_folder() / "prefect"), "PREFECT_API_URL": ""}
        found["command line"][count] = run_program(command, env)[0]
    return found


def worker_curve(scratch: Path) -> dict[int, float]:
    """Samples a second of the tiny CLIP by workers, each a process with its own half of the shards, models loaded."""
    tars = sorted(make_shards(WORKER_SHARDS, WORKER_SAMPLES).glob("*.tar"))
    found = {}
    for workers in WORKERS:
        places = [scratch / f"workers-{workers}-{k}" for k in range(workers)]
        own = [clip_parameters(tars[k::workers], place) | {"workers": 1} for k, place in enumerate(places)]
        with ThreadPoolExecutor(workers) as pool:
            told = list(pool.map(_score, own))
        found[workers] = WORKER_SHARDS * WORKER_SAMPLES / max(told)
    return found


def _score(fields: dict[str, Any]) -> float:
    command = python("benchmarks.programs.score_engine", json.dumps(fields))
    env = {**os.environ, **QUIET, **ONE}
    text = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout
    return float(last_json(text)["loop_s"])


def select_curve(scratch: Path) -> dict[int, Measured]:
    """By rows."""
    found = {}
    tables = make_tables()
    for count in TABLES:
        folder = scratch / f"tables-{count}"
        for scorer in ("clip_score", "unifilter"):
            (folder / scorer).mkdir(parents=True)
            for table in sorted((tables / scorer).glob("*.parquet"))[:count]:
                os.link(table, folder / scorer / table.name)
        command = python("benchmarks.programs.select_rows", "vlfilter", str(folder), str(scratch / f"{count}.npy"))
        found[count * ROWS] = run_program(command)[0]
    return found


def run() -> bool:
    with scratch_folder("scaling") as place:
        scratch = Path(place)
        shards, workers, selected = shard_curve(scratch), worker_curve(scratch), select_curve(scratch)
    few, many = SHARDS[-2], SHARDS[-1]
    more = {way: (curve[many].cpu_s - curve[few].cpu_s) / (many - few) for way, curve in shards.items()}
    prefect = more["command line"] - more["engine"]
    lines = [
        Line("Prefect, of a shard that takes one second", round(100 * prefect, 1), "%",
             baseline=round(1000 * more["engine"], 1), baseline_name="CPU-ms of the engine for such a tiny shard"),
    ]  # fmt: skip
    for count in SHARDS:
        flow, engine = shards["command line"][count], shards["engine"][count]
        what, alone = f"{count:,} tiny shards, wall", round(engine.wall_s, 2)
        lines.append(Line(what, round(flow.wall_s, 2), "s", baseline=alone, baseline_name="engine alone"))
    memory = [shards["command line"][count].peak_mb for count in (SHARDS[0], SHARDS[-1])]
    what = f"peak memory for {many:,} shards over that for {SHARDS[0]}"
    lines.append(at_most(what, round(memory[1] / memory[0], 2), "×", 1.5))
    lines += [Line(f"{n} worker{'s' * (n > 1)}, tiny CLIP", round(rate), "samples/s") for n, rate in workers.items()]
    for rows, measured in selected.items():
        lines.append(Line(f"select from {rows:,} rows, wall", round(measured.wall_s, 2), "s"))
    details = {
        "samples_a_shard": SAMPLES,
        "shards": {way: {n: one.as_json() for n, one in curve.items()} for way, curve in shards.items()},
        "workers": workers,
        "select": {rows: one.as_json() for rows, one in selected.items()},
    }
    return write_result("scaling", lines, details)


if __name__ == "__main__":
    sys.exit(not run())
