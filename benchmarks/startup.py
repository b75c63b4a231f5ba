"""How soon the command line answers `--help`, and how long the import of each flow takes: without torch.

The fastest of several runs each, in a new process: the files are in the page cache then, as on the second try of a
person. Beside the flows stands the import of Prefect alone, which no flow can do without.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from benchmarks.harness import ROOT, Line, Measured, at_most, last_json, python, run_program, write_result

RUNS = 5
HELP_S, FLOW_S = 0.5, 1.5


def flows() -> list[str]:
    """The modules of the folder that hold a flow."""
    return sorted(f"flows.{path.stem}" for path in (ROOT / "flows").glob("*.py") if "@flow" in path.read_text())


def quickest(command: list[str]) -> Measured:
    return min((run_program(command)[0] for _ in range(RUNS)), key=lambda measured: measured.wall_s)


def imported(module: str) -> dict[str, Any]:
    """`seconds` for the import alone, the fastest of several, and whether it brought torch."""
    found = [last_json(run_program(python("benchmarks.programs.import_module", module))[1]) for _ in range(RUNS)]
    return min(found, key=lambda one: float(one["seconds"]))


def run() -> bool:
    asked = quickest([str(Path(sys.executable).with_name("vlfilter")), "--help"])
    nothing = quickest([sys.executable, "-c", "pass"])
    times = {module: imported(module) for module in ("prefect", *flows())}
    prefect = times.pop("prefect")
    slowest = max(times, key=lambda module: float(times[module]["seconds"]))
    lines = [
        at_most("`vlfilter --help`, wall", round(asked.wall_s, 2), "s", HELP_S,
                baseline=round(nothing.wall_s, 3), baseline_name="python that does nothing"),
        Line("`vlfilter --help`, CPU time", round(asked.cpu_s, 2), "s"),
        at_most(f"the slowest import of {len(times)} flows, {slowest}", times[slowest]["seconds"], "s", FLOW_S,
                baseline=prefect["seconds"], baseline_name="prefect alone"),
        at_most("flows whose import brings torch", sum(one["torch"] for one in times.values()), "", 0),
    ]  # fmt: skip
    return write_result("startup", lines, {"help": asked.as_json(), "flows": times, "prefect": prefect})


if __name__ == "__main__":
    sys.exit(not run())
