"""Put measured tables into README.md: `python -m benchmarks.readme [DEMO_FOLDER]`. Nothing there is typed by hand."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.harness import RESULTS, ROOT
from benchmarks.markers import fill
from benchmarks.self_filter_digits import NAMES
from benchmarks.table import BENCHMARKS, number

OWN_TABLES = ("self_filter_digits", "data_engine_digits", "minigpt_v2_digits")


def figures() -> str:
    """One row a measured line of every result."""
    rows = ["| benchmark | what | measured | target | beside |", "|---|---|---|---|---|"]
    for path in (
        path for name in BENCHMARKS if name not in OWN_TABLES and (path := RESULTS / f"{name}.json").is_file()
    ):
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
    rows = ["| selected | wrong answers | near-copies | accuracy after tuning |", "|---|---:|---:|---:|"]
    seeds = details("self_filter_digits")["seeds"]
    for name, words in NAMES.items():
        found = [seed[name] for seed in seeds]
        cells = [[100 * one[what] for one in found] for what in ("wrong", "copies", "accuracy")]
        rows.append(f"| {words} | " + " | ".join(map(spread, cells)) + " |")
    return "\n".join(rows)


def rounds() -> str:
    """Weak and other types before and after each round, the engine's questions beside evenly spread ones."""
    seeds = details("data_engine_digits")["seeds"]
    rows = ["| types | questions | before | after round 1 | after round 2 |", "|---|---|---:|---:|---:|"]
    for what, named in (("weak", "the two weak ones"), ("others", "the four others")):
        for arm, words in (("engine", "the engine's"), ("even", "as many, spread evenly")):
            cells = [spread([seed[arm][number][what] for seed in seeds]) for number in range(3)]
            rows.append(f"| {named} | {words} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def formats() -> str:
    """What a trained model gets right in each benchmark's format, itself untrained and the best constants beside."""
    found = details("minigpt_v2_digits")["found"]
    rows = ["| in the format of | trained | untrained | best constant answers |", "|---|---:|---:|---:|"]
    for name, words in (("seed", "SEED-Bench"), ("okvqa", "OK-VQA"), ("vsr", "VSR")):
        cells = [spread([one[who][name] for one in found]) for who in ("trained", "untrained", "constant")]
        rows.append(f"| {words} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def details(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text())["details"]


def spread(values: Sequence[float]) -> str:
    return f"{mean(values):.1f} % ± {stdev(values):.1f}"


def main() -> None:
    readme = ROOT / "README.md"
    text = fill(readme.read_text(), "figures", figures())
    for name, table in (("selections", selections), ("rounds", rounds), ("formats", formats)):
        if f"begin:{name}" in text:
            text = fill(text, name, table())
    if len(sys.argv) > 1:
        demo = Path(sys.argv[1], "demo.md").read_text()
        text = fill(text, "demo", demo.replace("### ", "**").replace("\n\n|", "**\n\n|"))
    readme.write_text(text)


if __name__ == "__main__":
    main()
