"""Find the 1,000 nearest of 118,287 images (COCO train2017's number, 512 dimensions) for 6,000 queries on two cores,
beside the published procedure, one query at a time.

The published way is run on the first 100 of the queries and its time a query extrapolated to all. Both must find the
same images. Embeddings are random numbers: the work does not depend on them. Wall times need two free cores; CPU time
tells what they would be where others ran beside.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import (
    Line,
    at_least,
    at_most,
    last_json,
    python,
    run_program,
    scratch_folder,
    write_result,
)
from benchmarks.programs.retrieval import THREADS

IMAGES, QUERIES, K, SAMPLE = 118_287, 6000, 1000, 100


def run() -> bool:
    env = {name: str(THREADS) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    found: dict[str, dict[str, Any]] = {}
    measured = {}
    with scratch_folder("retrieval") as place:
        rows = {way: Path(place) / f"{way}.npy" for way in ("batched", "one_by_one")}
        for way, queries in (("batched", QUERIES), ("one_by_one", SAMPLE)):
            command = python("benchmarks.programs.retrieval", way, *map(str, (IMAGES, queries, K)), str(rows[way]))
            measured[way], text = run_program(command, env)
            found[way] = last_json(text)
        ours, theirs = np.load(rows["batched"])[:SAMPLE], np.load(rows["one_by_one"])
    shared = [len(set(a) & set(b)) for a, b in zip(ours.tolist(), theirs.tolist(), strict=True)]
    if min(shared) < K - 1:  # float32 rounding may swap the last place
        raise SystemExit(f"the answers differ: of {K}, {min(shared)} are shared")
    wall, cpu = found["batched"]["wall_s"], found["batched"]["cpu_s"]
    published, published_cpu = (found["one_by_one"][kind] / SAMPLE * QUERIES for kind in ("wall_s", "cpu_s"))
    name = f"cosine and torch.topk, one query at a time, {SAMPLE} of {QUERIES} run"
    times = at_least("faster than one by one", round(published / wall, 1), "times", 20)
    lines = [
        at_most(
            f"{QUERIES:,} queries, top {K:,} of {IMAGES:,}, wall",
            round(wall, 2),
            "s",
            10,
            baseline=round(published, 1),
            baseline_name=name,
        ),
        times,
        Line("CPU time", round(cpu, 2), "s", baseline=round(published_cpu, 1), baseline_name=name),
        at_most(
            "peak memory",
            round(measured["batched"].peak_mb),
            "MB",
            1500,
            baseline=round(measured["one_by_one"].peak_mb),
            baseline_name=name,
        ),
    ]
    details = {
        "images": IMAGES,
        "queries": QUERIES,
        "k": K,
        "threads": THREADS,
        "one_by_one_sample": SAMPLE,
        "shared_of_k_at_least": min(shared),
        "timed": found,
        **{way: value.as_json() for way, value in measured.items()},
        "load_over_15_minutes": round(os.getloadavg()[2], 2),
    }
    return write_result("retrieval", lines, details)


if __name__ == "__main__":
    sys.exit(not run())
