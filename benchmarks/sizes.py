"""What a run over 12.8 million samples takes, reckoned from results/*.json: `python -m benchmarks.sizes`.

Writes the table into docs/operations.md between its markers; every row shows its arithmetic and where a figure is from.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.harness import RESULTS, ROOT
from benchmarks.markers import fill
from benchmarks.table import number

SAMPLES = 12_800_000  # DataComp's smallest pool
A_SHARD = 10_000
KEPT = 0.3
GPUS = (1, 8, 32)
PAGE = ROOT / "docs" / "operations.md"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    what: str
    arithmetic: str
    result: str
    source: str

    def line(self) -> str:
        return f"| {self.what} | {self.arithmetic} | **{self.result}** | {self.source} |"


class Results:
    """The committed results. Raises `KeyError` for a line that a benchmark has no more."""

    def has(self, name: str) -> bool:
        return (RESULTS / f"{name}.json").is_file()

    def details(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self._read(name)["details"]
        return found

    def value(self, name: str, what: str) -> float:
        for line in self._read(name)["lines"]:
            if line["what"] == what:
                return float(line["value"])
        raise KeyError(f"results/{name}.json has no line {what!r}")

    def rates(self, name: str) -> dict[str, float]:
        """Samples a second of every scorer at full size; none where the benchmark has not been run."""
        if not self.has(name):
            return {}
        found = {}
        for line in self._read(name)["lines"]:
            if line["unit"] == "samples/s" and line["what"].endswith("scoring"):
                found[line["what"].removesuffix("scoring").rstrip(" ,:")] = float(line["value"])
        return found

    def _read(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
        return found


def rows(results: Results) -> Iterator[Row]:
    yield from data(results)
    yield from scoring(results)
    yield from choosing(results)


def data(results: Results) -> Iterator[Row]:
    shape = results.details("clip_score")["data"]
    kilobytes = 1000 * shape["tar_mb"] / (shape["shards"] * shape["samples_a_shard"])
    shards = SAMPLES // A_SHARD
    of = "images of the benchmarks' size (`clip_score`)"
    yield Row("Shards", f"{SAMPLES:,} samples ÷ {A_SHARD:,} a shard", f"{shards:,}", "DataComp small")
    yield Row("In the bucket", f"{SAMPLES:,} × {number(kilobytes)} kB", _bytes(SAMPLES * kilobytes * 1e3), of)
    kept = f"{KEPT:.0%} of {SAMPLES:,} × {number(kilobytes)} kB"
    yield Row("The subset's new tars", kept, _bytes(KEPT * SAMPLES * kilobytes * 1e3), of)


def scoring(results: Results) -> Iterator[Row]:
    cost = results.value("clip_score", "one more sample, engine")
    yield Row(
        "Cores that read and decode, and a tiny CLIP",
        f"{SAMPLES:,} × {number(cost)} CPU-ms",
        f"{SAMPLES * cost / 3.6e6:.1f} core-hours",
        "`clip_score`, one more sample",
    )
    for scorer, rate in results.rates("gpu").items():
        hours = SAMPLES / rate / 3600
        yield Row(
            f"GPU time, {scorer}",
            f"{SAMPLES:,} ÷ {number(rate)} samples/s",
            f"{number(hours)} GPU-hours: " + ", ".join(f"{_hours(hours / gpus)} on {gpus}" for gpus in GPUS),
            "`gpu`, random weights",
        )
    yield Row(
        "Memory of a worker beside its model",
        "does not grow with shards",
        f"{number(results.value('memory', 'engine: peak for 100 shards'))} MB",
        "`memory`, a tiny CLIP in it",
    )


def choosing(results: Results) -> Iterator[Row]:
    yield from planning(results)
    again = results.value("second_run", "`vlfilter score` over 1000 finished shards, wall")
    shards = SAMPLES // A_SHARD
    yield Row("A second run over what is done", f"{shards:,} × {again} s ÷ 1,000", _seconds(shards * again / 1000),
              "`second_run`, a local disk")  # fmt: skip
    wall = results.value("select_rows", "10 million rows, wall")
    yield Row("Select by two scorers", f"{SAMPLES:,} × {wall} s ÷ 10,000,000", _seconds(SAMPLES * wall / 1e7),
              f"`select_rows`, {number(results.value('select_rows', 'peak memory'))} MB")  # fmt: skip
    speed = results.value("reshard", "one worker")
    yield Row("Reshard with one worker", f"{SAMPLES:,} ÷ {number(speed)} samples/s", _seconds(SAMPLES / speed),
              "`reshard`, a local disk")  # fmt: skip


def planning(results: Results) -> Iterator[Row]:
    """Of a list as long as was measured, which is more than 12.8 million samples have."""
    if not results.has("plan_shards"):
        return
    planned = results.details("plan_shards")["shards"]
    wall = results.value("plan_shards", "S3, no table there, wall")
    memory = number(results.value("plan_shards", "S3, no table there, peak memory"))
    yield Row(f"Plan {planned:,} shards in a bucket", "as measured", _seconds(wall), f"`plan_shards`, {memory} MB")


def table(results: Results) -> str:
    lines = ["| what | arithmetic | result | figure from |", "|---|---|---|---|"]
    return "\n".join([*lines, *(row.line() for row in rows(results))])


def _bytes(count: float) -> str:
    return f"{count / 1e9:,.0f} GB"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _hours(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1.5 else f"{60 * hours:.0f} min"


def write_sizes() -> None:
    PAGE.write_text(fill(PAGE.read_text(), "sizes", table(Results())))


if __name__ == "__main__":
    write_sizes()
