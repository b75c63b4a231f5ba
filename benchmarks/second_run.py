"""A second run over 1,000 finished shards: nothing is loaded, nothing goes through the model, and it is quick."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.counting import FILE, NAME
from benchmarks.data import make_shards, repeat_shards
from benchmarks.harness import Line, at_most, python, run_program, scratch_folder, write_result
from benchmarks.models import clip_tiny
from benchmarks.server import prefect_server

SHARDS, SAMPLES, DIFFERENT = 1000, 4, 20


def run() -> bool:
    with scratch_folder("second-run") as name:
        scratch = Path(name)
        folder = repeat_shards(make_shards(DIFFERENT, SAMPLES), SHARDS // DIFFERENT, scratch / "shards")
        output, count = scratch / "scores", scratch / "count"
        count.touch()
        environment = {
            FILE: str(count),
            "PREFECT_HOME": str(scratch / "prefect"),
            "PREFECT_API_URL": "",
        }
        parameters: dict[str, Any] = {
            "shards": [str(folder)], "output": str(output), "scorer": [NAME], "model": {NAME: str(clip_tiny())},
        }  # fmt: skip
        first, _ = run_program(python("benchmarks.programs.score_engine", json.dumps(parameters)), environment)
        loads, samples = read_count(count)
        if loads != 1 or samples != SHARDS * SAMPLES:
            raise SystemExit(f"the first run loaded the model {loads} times and scored {samples} samples")
        count.write_text("")
        command = [str(Path(sys.executable).with_name("vlfilter")), "score", "--shards", str(folder)]
        command += ["--output", str(output), "--scorer", NAME, "--model", f"{NAME}={clip_tiny()}"]
        again, text = run_program(command, environment)
        if f"{SHARDS} shards, 0 to score" not in text:
            raise SystemExit(f"the command line found work to do:\n{text}")
        with prefect_server(scratch / "server") as client:
            flow_command = python("benchmarks.programs.run_flow", json.dumps(parameters))
            flow, text = run_program(flow_command, {**environment, **client})
        loads, samples = read_count(count)
    lines = [
        at_most(f"`vlfilter score` over {SHARDS} finished shards, wall", round(again.wall_s, 2), "s", 5),
        Line("the flow over them, server running, wall", round(flow.wall_s, 2), "s"),
        at_most("models loaded", loads, "", 0),
        at_most("samples through the model", samples, "", 0),
    ]
    details = {
        "shards": SHARDS,
        "samples_a_shard": SAMPLES,
        "first_run_engine": first.as_json(),
        "command_line": again.as_json(),
        "flow_with_running_server": flow.as_json(),
        "flow_said": text.strip().splitlines()[-1],
    }
    return write_result("second_run", lines, details)


def read_count(path: Path) -> tuple[int, int]:
    """(times the model was loaded, samples that went through it)."""
    noted = path.read_text().splitlines()
    return noted.count("load"), sum(int(line.split()[1]) for line in noted if line.startswith("forward"))


if __name__ == "__main__":
    sys.exit(not run())
