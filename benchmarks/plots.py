"""The curves of results/scaling.json as one picture, plots/scaling.svg."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes

from benchmarks.harness import RESULTS
from vlfilter.report.plots import draw_svg, new_figure

FOLDER = RESULTS.parent / "plots"
Curve = Mapping[str, Mapping[str, float]]


def write_plots() -> None:
    told = json.loads((RESULTS / "scaling.json").read_text())["details"]
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "scaling.svg").write_bytes(scaling(told))


def scaling(told: Mapping[str, Any]) -> bytes:
    """Five panels: wall and peak memory of a run by shards, the same of a selection by rows, workers."""
    figure = new_figure(10, 5.6)
    (wall, memory, workers), (select_wall, select_memory, empty) = figure.subplots(2, 3)
    empty.set_axis_off()
    for way, curve in told["shards"].items():
        _line(wall, curve, "wall_s", way)
        _line(memory, curve, "peak_mb", way)
    for axes, value, what in ((wall, "seconds", "shards"), (memory, "peak MB", "shards")):
        _name(axes, what, value)
        axes.legend(frameon=False)
    _line(select_wall, told["select"], "wall_s", "")
    _line(select_memory, told["select"], "peak_mb", "")
    _name(select_wall, "rows selected from", "seconds")
    _name(select_memory, "rows selected from", "peak MB")
    wall.set_yscale("log")
    for axes in (memory, select_wall, select_memory):
        axes.set_ylim(bottom=0)
    workers.bar(list(told["workers"]), list(told["workers"].values()), width=0.5)
    _name(workers, "workers", "samples/s, tiny CLIP", log=False)
    return draw_svg(figure)


def _line(axes: Axes, curve: Curve, value: str, label: str) -> None:
    axes.plot([int(x) for x in curve], [one[value] for one in curve.values()], marker="o", label=label)


def _name(axes: Axes, across: str, up: str, log: bool = True) -> None:
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    if log:
        axes.set_xscale("log")


if __name__ == "__main__":
    write_plots()
