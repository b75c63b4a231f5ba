"""Put measured tables into README.md: `python -m benchmarks.readme [DEMO_FOLDER]`. Nothing there is typed by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.harness import RESULTS, ROOT
from benchmarks.markers import fill
from benchmarks.self_filter_digits import NAMES
from benchmarks.table import BENCHMARKS, number

OWN_TABLE = "self_filter_digits"


def figures() -> str:
    """One row a measured line of every result."""
    rows = ["| benchmark | what | measured | target | beside |", "|---|---|---|---|---|"]
    for path in (path for name in BENCHMARKS if name != OWN_TABLE and (path := RESULTS / f"{name}.json").is_file()):
        result: dict[str, Any] = json.loads(path.read_text())
        for line in result["lines"]:
            beside = f"{number(line['baseline'])} ({line['baseline_name']})" if line["baseline"] is not None else ""
            missed = "" if line["met"] in (True, None) else " **missed**"
            measured = f"{number(line['value'])} {line['unit']}".strip()
            rows.append(
                f"| {result['benchmark']} | {line['what']} | {measured}{missed} | {line['limit'] or ''} | {beside} |"
            )
    return "\n".join(rows)


def selections() -> str:
    """One row a way of selecting, mean and standard deviation over the seeds."""
    result: dict[str, Any] = json.loads((RESULTS / f"{OWN_TABLE}.json").read_text())
    rows = ["| selected | wrong answers | near-copies | accuracy after tuning |", "|---|---:|---:|---:|"]
    for name, words in NAMES.items():
        found = [seed[name] for seed in result["details"]["seeds"]]
        cells = [[100 * one[what] for one in found] for what in ("wrong", "copies", "accuracy")]
        rows.append(
            f"| {words} | " + " | ".join(f"{mean(values):.1f} % ± {stdev(values):.1f}" for values in cells) + " |"
        )
    return "\n".join(rows)


def main() -> None:
    readme = ROOT / "README.md"
    text = fill(readme.read_text(), "figures", figures())
    if "begin:selections" in text:
        text = fill(text, "selections", selections())
    if len(sys.argv) > 1:
        demo = Path(sys.argv[1], "demo.md").read_text()
        text = fill(text, "demo", demo.replace("### ", "**").replace("\n\n|", "**\n\n|"))
    readme.write_text(text)


if __name__ == "__main__":
    main()
