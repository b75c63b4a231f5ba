"""The demo's result for people: tables in the terminal, Markdown and JSON beside them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table

from vlfilter import __version__
from vlfilter.demo.evaluate import RANDOM, DemoResult
from vlfilter.demo.layout import KEEP, Layout
from vlfilter.demo.spoil import SHARES, Kind


@dataclass(frozen=True, slots=True)
class Grid:
    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.1f} %"


def grids(result: DemoResult) -> list[Grid]:
    kinds = [str(kind) for kind in SHARES]
    spoiled = sum(count for kind, count in result.counts.items() if kind in kinds)
    total = sum(result.counts.values())
    numbers = ", ".join(f"{result.counts[kind]} {kind}" for kind in (str(Kind.CLEAN), *kinds))
    caught = Grid(
        f"Spoiled samples caught when the best {KEEP} are kept ({spoiled} of {total} are spoiled: {numbers})",
        ["scorer", "precision", "recall", "clean among kept", "AUROC"],
        [
            [d.scorer, percent(d.precision), percent(d.recall), percent(d.purity), f"{d.auroc:.3f}"]
            for d in result.detections
        ],
    )
    by_kind = Grid(
        "By kind of defect: recall at that rate, and AUROC against clean samples",
        ["scorer", *kinds],
        [
            [d.scorer, *(f"{percent(d.recall_by_kind[kind])}, {d.auroc_by_kind[kind]:.3f}" for kind in kinds)]
            for d in result.detections
        ],
    )
    runs = len(result.accuracies[0].runs)
    accuracy = Grid(
        f"Accuracy of a small classifier on {result.test_samples} clean test images (mean ± s.d. of {runs} runs)",
        ["trained on", "samples", "with a label", "accuracy"],
        [
            [a.trained_on, str(a.samples), str(a.labelled), f"{percent(a.mean)} ± {100 * a.deviation:.1f}"]
            for a in result.accuracies
        ],
    )
    unreadable = Grid(
        "Samples without a score, and why",
        ["key", "status", "reason"],
        [[row.key, row.status, row.reason] for row in result.unreadable],
    )
    return [caught, by_kind, accuracy, unreadable]


def verdicts(result: DemoResult) -> list[str]:
    """In words where a scorer did no better than chance, by more than the noise of this run; empty when none did."""
    by_name = {a.trained_on: a for a in result.accuracies}
    chance = by_name[RANDOM]
    found = []
    for detection in result.detections:
        if detection.scorer == RANDOM:
            continue
        for kind, area in {"spoiled samples": detection.auroc, **detection.auroc_by_kind}.items():
            if area < 0.5 + 2 * _noise(result, kind):
                found.append(f"{detection.scorer} tells clean from {kind} no better than chance (AUROC {area:.3f}).")
        own = by_name[detection.scorer]
        if own.mean - own.deviation <= chance.mean + chance.deviation:
            found.append(f"{detection.scorer}'s subset trains the classifier no better than a random one.")
    return found


def _noise(result: DemoResult, kind: str) -> float:
    """Standard deviation of the AUROC of random scores (Hanley and McNeil 1982, at an area of one half)."""
    clean = result.counts[str(Kind.CLEAN)]
    bad = result.counts.get(kind) or sum(result.counts[str(kind)] for kind in SHARES)
    return math.sqrt((clean + bad + 1) / (12 * clean * bad)) if bad else 0.0


def show(result: DemoResult, console: Console) -> None:
    for grid in grids(result):
        table = Table(title=grid.title, title_justify="left")
        for i, name in enumerate(grid.head):
            table.add_column(name, justify="left" if i == 0 or grid.head[1] == "status" else "right")
        for row in grid.rows:
            table.add_row(*row)
        console.print(table)
    for verdict in verdicts(result):
        console.print(verdict)


def markdown(result: DemoResult) -> str:
    parts = []
    for grid in grids(result):
        lines = [grid.head, ["---"] * len(grid.head), *grid.rows]
        rows = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
        parts.append(f"### {grid.title}\n\n{rows}\n")
    return "\n".join([*parts, *(f"- {verdict}" for verdict in verdicts(result)), ""])


def write(result: DemoResult, layout: Layout, seed: int, seconds: dict[str, float]) -> None:
    """`demo.json` and `demo.md`."""
    record = {"vlfilter": __version__, "seed": seed, "keep": KEEP, "seconds": seconds, **asdict(result)}
    (layout.output / "demo.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    (layout.output / "demo.md").write_text(markdown(result), encoding="utf-8")
