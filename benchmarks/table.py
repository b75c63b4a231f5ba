"""Writes README.md from results/*.json: no figure in it is typed by hand."""

from __future__ import annotations

import importlib
import json
from typing import Any

from benchmarks.harness import RESULTS
from benchmarks.plots import FOLDER, write_plots

BENCHMARKS = (
    "clip_score",
    "unifilter",
    "data_path",
    "feeding",
    "gpu",
    "mlm_filter",
    "plan_shards",
    "second_run",
    "scaling",
    "startup",
    "select_rows",
    "diverse_selection",
    "reshard",
    "memory",
    "self_filter_digits",
    "retrieval",
    "data_engine_digits",
    "minigpt_v2_digits",
)
HEAD = """# Benchmarks

`python -m benchmarks` runs all and writes this page; `python -m benchmarks.NAME` runs one, `python -m benchmarks.table`
writes the page again. Each benchmark runs its baseline on the same data in the same run. CPU time is the kernel's, user
and system, all child processes included; *one more sample* is the difference between a run over 10 tars and one over 2,
so imports and the loading of models cancel out. Memory is the largest sum of PSS over the processes. Data and models
are made on the spot, always the same, and kept in `$VLFILTER_BENCHMARKS` (default `~/.cache/vlfilter/benchmarks`).
"""


def write_table() -> None:
    if (RESULTS / "scaling.json").is_file():
        write_plots()
    parts = [HEAD]
    for name in BENCHMARKS:
        path = RESULTS / f"{name}.json"
        if path.is_file():
            parts.append(section(json.loads(path.read_text()), _purpose(name)))
            parts += [f"![the curves of {name}](plots/{name}.svg)\n"] * (FOLDER / f"{name}.svg").is_file()
    (RESULTS.parent / "README.md").write_text("\n".join(parts))


def section(record: dict[str, Any], purpose: str) -> str:
    """One benchmark's lines with where and when they were measured."""
    rows = [
        f"## {record['benchmark']}\n\n{purpose}\n",
        "| | measured | limit | met | beside it |",
        "|---|---:|---:|:---:|---:|",
    ]
    for line in record["lines"]:
        met = {True: "yes", False: "**no**", None: ""}[line["met"]]
        value = f"{number(line['value'])} {line['unit']}".strip()
        beside = ""
        if line["baseline"] is not None:
            beside = f"{number(line['baseline'])} ({line['baseline_name']})"
        rows.append(f"| {line['what']} | {value} | {line['limit']} | {met} | {beside} |")
    machine = record["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    gpu = f" with one {machine['gpu']}" if machine.get("gpu") else ""
    rows.append(
        f"\n`{record['command']}` at commit {record['commit']}, {record['date']}: {machine['cores']} cores "
        f"{machine['cpu']}{gpu}, {machine['memory_gb']} GB, load {machine['load']} at the end; "
        f"Python {machine['python']}, {packages}. [All figures](results/{record['benchmark']}.json)\n"
    )
    return "\n".join(rows)


def number(value: float) -> str:
    """Four significant digits, thousands set apart."""
    if value and abs(value) < 1e-3:
        return f"{value:.1e}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _purpose(name: str) -> str:
    """The first paragraph of the benchmark's own description."""
    text = importlib.import_module(f"benchmarks.{name}").__doc__ or ""
    return " ".join(text.split("\n\n")[0].split())


if __name__ == "__main__":
    write_table()
