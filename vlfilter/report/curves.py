"""A training run's curve as a picture."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from vlfilter.report.plots import BAR, CURVE, MUTED, new_figure, style


def training_curve(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """PNG of `loss` over `step`, beside the throughput where rows hold `samples_per_second`."""
    figure = new_figure(9.6, 2.9)
    losses, speeds = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    _line(losses, rows, "loss", CURVE)
    _line(speeds, rows, "samples_per_second", BAR)
    losses.set_ylabel("loss")
    speeds.set_ylabel("samples a second")
    if not rows:
        figure.text(0.5, 0.5, "no steps yet", ha="center", color=MUTED)
    style(figure.axes)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()


def _line(axes: Any, rows: Sequence[Mapping[str, Any]], name: str, color: str) -> None:
    points = [(row["step"], row[name]) for row in rows if "step" in row and name in row]
    axes.plot([x for x, _ in points], [y for _, y in points], color=color, linewidth=1.4)
    axes.set_xlabel("step")
    axes.set_ylim(bottom=0)
