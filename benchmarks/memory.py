"""Peak memory over 10 and over 100 shards of the same size: the engine's and the command line's."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.clip_score import command_line, engine
from benchmarks.data import describe_shards, make_shards, repeat_shards
from benchmarks.harness import Line, Measured, at_most, scratch_folder, write_result

FEW, MANY, SAMPLES = 10, 100, 200


def run() -> bool:
    source = make_shards(FEW, SAMPLES)
    peaks: dict[str, dict[int, Measured]] = {"engine": {}, "command line": {}}
    with scratch_folder("memory") as name:
        scratch = Path(name)
        for count in (FEW, MANY):
            tars = sorted(repeat_shards(source, count // FEW, scratch / f"shards-{count}").glob("*.tar"))
            peaks["engine"][count] = engine(tars, scratch / f"engine-{count}")
            peaks["command line"][count] = command_line(tars, scratch / f"flow-{count}")
    lines = []
    for way, measured in peaks.items():
        few, many = measured[FEW].peak_mb, measured[MANY].peak_mb
        lines += [
            at_most(f"{way}: peak for {MANY} shards over that for {FEW}", round(many / few, 3), "×", 1.1),
            Line(
                f"{way}: peak for {MANY} shards", round(many), "MB", baseline=round(few), baseline_name=f"{FEW} shards"
            ),
        ]
    details = {
        "data": describe_shards(source),
        **{way: {str(count): one.as_json() for count, one in found.items()} for way, found in peaks.items()},
    }
    return write_result("memory", lines, details)


if __name__ == "__main__":
    sys.exit(not run())
