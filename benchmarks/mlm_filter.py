"""MLM-Filter's four metrics in one pass, beside loops as the published script runs them: four passes over the tar."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.data import SAMPLES, describe_shards, make_shards
from benchmarks.harness import Line, Measured, at_least, python, run_program, scratch_folder, write_result
from benchmarks.models import MLM_FILTER_TINY
from benchmarks.tables import column_by_key
from vlfilter.scoring.mlm_filter_prompts import METRICS

SHARDS, WORKERS = 1, 2


def engine(tars: list[Path], output: Path, answer: str) -> Measured:
    parameters = {
        "shards": [str(tar) for tar in tars],
        "output": str(output),
        "scorer": ["mlm_filter"],
        "model": {"mlm_filter": str(MLM_FILTER_TINY)},
        "compat": "original" if answer == "greedy" else None,
        "options": {"mlm_filter": {"answer": answer}},
        "workers": WORKERS,
    }
    return run_program(python("benchmarks.programs.score_engine", json.dumps(parameters)))[0]


def plain_loop(tars: list[Path], output: Path) -> Measured:
    command = python("benchmarks.programs.mlm_filter_loop", str(MLM_FILTER_TINY), str(output), *map(str, tars))
    return run_program(command)[0]


def agreement(ours: Path, loop: Path) -> tuple[int, int]:
    """Answers that are equal, and answers in all: the loop's texts against our whole numbers."""
    equal = total = 0
    for metric in METRICS:
        found = column_by_key(ours, f"{metric}_answer")
        for path in sorted(loop.glob(f"*_{metric}.parquet")):
            table = pq.read_table(path, columns=["key", f"{metric}_score"]).to_pylist()
            total += len(table)
            equal += sum(_number(row[f"{metric}_score"]) == found[row["key"]] for row in table)
    return equal, total


def _number(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


def run() -> bool:
    folder = make_shards(SHARDS)
    tars = sorted(folder.glob("*.tar"))
    count = SHARDS * SAMPLES
    with scratch_folder("mlm-filter") as place:
        scratch = Path(place)
        expected = engine(tars, scratch / "expected", "expected")
        greedy = engine(tars, scratch / "greedy", "greedy")
        loop = plain_loop(tars, scratch / "loop")
        equal, total = agreement(scratch / "greedy" / "mlm_filter", scratch / "loop")
    name = "four passes of a plain loop"
    lines = [
        at_least("expected score: the loop's time over ours", round(loop.wall_s / expected.wall_s, 2), "×", 3.5),
        at_least("the same in CPU time", round(loop.cpu_s / expected.cpu_s, 2), "×", 3.5),
        at_least("greedy: the loop's time over ours", round(loop.wall_s / greedy.wall_s, 2), "×", 3.5),
        at_least("greedy answers equal to the loop's", round(100 * equal / total, 2), "%", 99.5),
        Line("expected score", round(1e3 * expected.wall_s / count, 2), "ms a sample",
             baseline=round(1e3 * loop.wall_s / count, 2), baseline_name=name),
        Line("expected score", round(1e3 * expected.cpu_s / count, 2), "CPU-ms a sample",
             baseline=round(1e3 * loop.cpu_s / count, 2), baseline_name=name),
        Line("memory at its peak", round(expected.peak_mb), "MB", baseline=round(loop.peak_mb), baseline_name=name),
    ]  # fmt: skip
    details = {
        "data": describe_shards(folder),
        "expected": expected.as_json(),
        "greedy": greedy.as_json(),
        "plain_loop": loop.as_json(),
    }
    return write_result("mlm_filter", lines, details)


if __name__ == "__main__":
    sys.exit(not run())
