"""The report's pictures. matplotlib is imported when one is drawn, and never touches a screen or global state."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vlfilter.data.scores import Scores
from vlfilter.report.correlation import Correlations
from vlfilter.report.statistics import Distribution, collect

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, BAR, CURVE, CUT = "#1f2933", "#7b8794", "#5b8def", "#0b7285", "#d9480f"
MAX_PAIRS = 6
MAX_POINTS = 4_000


def score_histograms(output: str) -> bytes:
    """One PNG with a histogram of every score below `output`. Raises `VlfilterError` when there are no tables."""
    scores = Scores.open(output)
    found = [d for scorer in scores.schemas for d in collect(scores, scorer).distributions]
    columns = min(3, max(1, len(found)))
    figure = new_figure(4.2 * columns, 2.9 * max(1, math.ceil(len(found) / columns)))
    for place, distribution in enumerate(found, 1):
        _histogram(figure.add_subplot(math.ceil(len(found) / columns), columns, place), distribution)
    if not found:
        figure.text(0.5, 0.5, "no scores yet", ha="center", color=MUTED)
    style(figure.axes)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()


def distribution_plot(distribution: Distribution, thresholds: Mapping[str, float]) -> str:
    """Histogram beside keep rate against threshold, as an SVG data URL; `thresholds` (by label) are marked in both."""
    figure = new_figure(9.6, 2.9)
    bars, curve = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    _histogram(bars, distribution)
    steps, rates = distribution.keep_rates()
    curve.plot(steps, 100 * rates, color=CURVE, linewidth=1.8, drawstyle="steps-pre")
    curve.set_xlabel("threshold")
    curve.set_ylabel("kept at or above, %")
    curve.set_ylim(0, 102)
    curve.grid(color="#e4e7eb", linewidth=0.7)
    for label, value in thresholds.items():
        share = 100 * float(rates[min(int(np.searchsorted(steps, value)), len(rates) - 1)])
        bars.axvline(value, color=CUT, linewidth=1.2, linestyle="--")
        curve.plot([value], [share], "o", color=CUT, markersize=5)
        curve.annotate(
            plain(f"{label}: {value:.4g}"), (value, share), xytext=(6, 6), textcoords="offset points",
            color=CUT, fontsize=8,
        )  # fmt: skip
    return _svg(figure)


def scatter_plot(found: Correlations) -> str:
    """The most closely related pairs of columns over the sampled rows, as an SVG data URL ("" when there is none)."""
    size = len(found.columns)
    pairs = [(a, b) for a in range(size) for b in range(a + 1, size) if not math.isnan(found.spearman[a, b])]
    pairs = sorted(pairs, key=lambda pair: -abs(found.spearman[pair]))[:MAX_PAIRS]
    if not pairs:
        return ""
    columns = min(3, len(pairs))
    figure = new_figure(3.3 * columns, 3.0 * math.ceil(len(pairs) / columns))
    for place, (a, b) in enumerate(pairs, 1):
        axes = figure.add_subplot(math.ceil(len(pairs) / columns), columns, place)
        points = found.sample[:MAX_POINTS][:, [a, b]]
        axes.plot(points[:, 0], points[:, 1], ".", color=BAR, markersize=2.5, alpha=0.45, rasterized=True)
        axes.set_xlabel(plain(found.columns[a]))
        axes.set_ylabel(plain(found.columns[b]))
        axes.set_title(f"Spearman {found.spearman[a, b]:+.2f}", fontsize=9, color=INK)
    return _svg(figure)


def _histogram(axes: Axes, distribution: Distribution) -> None:
    edges, counts = distribution.bars()
    axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=BAR, edgecolor="white", linewidth=0.3)
    axes.set_xlabel(plain(distribution.column))
    axes.set_ylabel("samples")


def new_figure(width: float, height: float) -> Figure:
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context({"font.size": 8.5}):
        figure = Figure((width, height), layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
    return figure


def style(axes: Sequence[Axes]) -> None:
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.spines[["left", "bottom"]].set_color("#cbd2d9")
        one.tick_params(colors=MUTED, labelsize=8)
        for label in (one.xaxis.label, one.yaxis.label):
            label.set_color(INK)
            label.set_fontsize(8.5)


def _svg(figure: Figure) -> str:
    """As an image and not as markup: nothing in an SVG image is ever run or fetched by a browser."""
    return f"data:image/svg+xml;base64,{base64.b64encode(draw_svg(figure)).decode()}"


def draw_svg(figure: Figure) -> bytes:
    """The same figure gives the same bytes."""
    from matplotlib import rc_context

    style(figure.axes)
    file = io.BytesIO()
    options: dict[str, Any] = {"svg.hashsalt": "vlfilter", "svg.fonttype": "path"}
    with rc_context(options):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None}, dpi=110)
    return file.getvalue()


def plain(text: str) -> str:
    """Text that matplotlib takes as it stands, not as mathematics."""
    return text.replace("$", r"\$")
