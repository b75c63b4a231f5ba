"""CPU time of UniFilter caption scoring, beside a plain loop as the published script runs it, same tars and model."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.clip_score import FEW, SHARDS, WORKERS, Cost
from benchmarks.data import SAMPLES, describe_shards, make_shards
from benchmarks.harness import Line, Measured, at_least, at_most, python, run_program, scratch_folder, write_result
from benchmarks.models import UNIFILTER_TINY
from benchmarks.tables import column_by_key


def engine(tars: list[Path], output: Path) -> Measured:
    parameters = {
        "shards": [str(tar) for tar in tars],
        "output": str(output),
        "scorer": ["unifilter"],
        "model": {"unifilter": str(UNIFILTER_TINY)},
        "compat": "original",
        "workers": WORKERS,
    }
    return run_program(python("benchmarks.programs.score_engine", json.dumps(parameters)))[0]


def plain_loop(tars: list[Path], output: Path, env: dict[str, str] | None = None) -> Measured:
    command = python("benchmarks.programs.unifilter_loop", str(UNIFILTER_TINY), str(output), *map(str, tars))
    return run_program(command, env)[0]


def run() -> bool:
    folder = make_shards(SHARDS)
    tars = sorted(folder.glob("*.tar"))
    few = tars[:FEW]
    with scratch_folder("unifilter") as place:
        scratch = Path(place)
        ours = Cost(engine(tars, scratch / "ours"), engine(few, scratch / "ours-few"))
        loop = Cost(plain_loop(tars, scratch / "loop"), plain_loop(few, scratch / "loop-few"))
        # Not as published, but fair to know: the same loop when OpenMP's threads sleep instead of spinning, as ours do.
        sleeping = {"OMP_WAIT_POLICY": "PASSIVE"}
        quiet = Cost(plain_loop(tars, scratch / "quiet", sleeping), plain_loop(few, scratch / "quiet-few", sleeping))
        found = column_by_key(scratch / "ours" / "unifilter", "quality_score")
        expected = column_by_key(scratch / "loop", "quality_score")
    if found.keys() != expected.keys() or len(found) != SHARDS * SAMPLES:
        raise SystemExit("the loop and vlfilter did not score the same samples")
    difference = max(abs(found[key] - expected[key]) for key in found)
    name = "plain loop"
    lines = [
        at_least("all of it: the loop's CPU time over ours", round(loop.raw / ours.raw, 2), "×", 5),
        at_least("one more sample: the loop's over ours", round(loop.net / ours.net, 2), "×", 5),
        at_most("largest difference of scores", difference, "", 1e-4),
        Line("all of it", round(ours.raw, 3), "CPU-ms a sample", baseline=round(loop.raw, 3), baseline_name=name),
        Line("all of it: the loop's over ours if its OpenMP threads slept", round(quiet.raw / ours.raw, 2), "×"),
        Line("one more sample", round(ours.net, 3), "CPU-ms", baseline=round(loop.net, 3), baseline_name=name),
    ]
    details = {
        "data": describe_shards(folder),
        "compat": "original",
        "engine": ours.as_json(),
        "plain_loop": loop.as_json(),
        "plain_loop_passive_openmp": quiet.as_json(),
    }
    return write_result("unifilter", lines, details)


if __name__ == "__main__":
    sys.exit(not run())
