"""Runs every benchmark in a process of its own, then writes the tables; ends with 1 when a limit is not met."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.harness import ROOT
from benchmarks.sizes import write_sizes
from benchmarks.table import BENCHMARKS, write_table


def main() -> int:
    failed = []
    for name in BENCHMARKS:
        print(f"--- {name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], cwd=ROOT, check=False).returncode:
            failed.append(name)
    write_table()
    write_sizes()
    if failed:
        print(f"limits not met, or not run: {', '.join(failed)}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
