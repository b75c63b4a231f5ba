"""The report: score tables in, one HTML file out that opens without a network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime

from jinja2 import Environment, PackageLoader, StrictUndefined

from vlfilter import __version__
from vlfilter.data.scores import Scores
from vlfilter.data.storage import write_bytes
from vlfilter.data.tables import Footer
from vlfilter.errors import VlfilterError
from vlfilter.report import plots
from vlfilter.report.correlation import SAMPLE, Correlations, correlate
from vlfilter.report.picks import View, views
from vlfilter.report.provenance import read_footers, sum_up
from vlfilter.report.statistics import Distribution, collect
from vlfilter.report.thumbnails import Thumbnail, read_thumbnails

MAX_FAILURES = 25


@dataclass(frozen=True)
class Plot:
    distribution: Distribution
    image: str


@dataclass(frozen=True)
class Matrix:
    """Correlations for the page; each cell is (text, CSS class of its strength)."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...]
    shards_rows: int
    sampled: int
    image: str


def build_report(scores_url: str, output_html: str, where: str | None = None, thumbnails: int = 8) -> None:
    """Write the report of all score tables below `scores_url`.

    `where` is the rule whose kept and dropped samples are shown (default: the top 30% by each scorer's first score);
    `thumbnails` is how many pictures a strip has, 0 for none. Shards that are gone leave pictures out, no more.
    Raises `VlfilterError` when there are no tables, for a mistake in `where`, or when the file cannot be written.
    """
    if not output_html.endswith((".html", ".htm")):
        raise VlfilterError(f"{output_html}: the report is an .html file.")
    scores = Scores.open(scores_url)
    statistics = [collect(scores, scorer) for scorer in scores.schemas]
    distributions = [distribution for one in statistics for distribution in one.distributions]
    default = [one.distributions[0].column for one in statistics if one.distributions]
    shown = views(scores, where, thumbnails, default)
    footers = read_footers(scores)
    correlations = correlate(scores, distributions)
    page = _environment().get_template("report.html.j2")
    html = page.render(
        url=scores_url,
        version=__version__,
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        shards=len(scores.shards),
        rows=max((one.rows for one in statistics), default=0),
        statistics=statistics,
        flagged=[(c, n, n / one.rows if one.rows else None) for one in statistics for c, n in one.flags.items()],
        incomplete=[one for one in statistics if one.shards < len(scores.shards)],
        plots=[_plot(distribution, shown) for distribution in distributions],
        matrix=_matrix(correlations) if correlations else None,
        views=shown,
        pictures=_pictures(scores, shown, {shard: f for of in footers.values() for shard, f in of.items()}),
        max_failures=MAX_FAILURES,
        provenance=[sum_up(scorer, of) for scorer, of in footers.items()],
    )
    write_bytes(output_html, html.encode("utf-8", "replace"))


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("vlfilter.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = lambda value: f"{value:,}"
    environment.filters["number"] = lambda value: "–" if value is None else f"{value:.4g}"
    environment.filters["percent"] = lambda value: f"{100 * value:.3g} %"
    environment.filters["size"] = _size
    environment.filters["duration"] = _duration
    return environment


def _plot(distribution: Distribution, shown: list[View]) -> Plot:
    marked = {label: value for view in shown if view.column == distribution.column for label, value in view.thresholds}
    return Plot(distribution, plots.distribution_plot(distribution, marked))


def _matrix(found: Correlations) -> Matrix:
    def cell(value: float) -> str:
        return "–" if math.isnan(value) else f"{value:+.2f}"

    def strength(value: float) -> str:
        return "none" if math.isnan(value) else f"{'minus' if value < 0 else 'plus'}{min(4, int(abs(value) * 5))}"

    rows = tuple(
        (
            name,
            tuple(
                (cell(found.pearson[i, j]), cell(found.spearman[i, j]), strength(found.spearman[i, j]))
                for j in range(len(found.columns))
            ),
        )
        for i, name in enumerate(found.columns)
    )
    return Matrix(found.columns, rows, found.rows, min(len(found.sample), SAMPLE), plots.scatter_plot(found))


def _pictures(scores: Scores, shown: list[View], footers: dict[str, Footer]) -> dict[tuple[str, int], Thumbnail]:
    """The thumbnail of every pick, by (shard, row)."""
    wanted = sorted({(pick.shard, pick.row) for view in shown for _, picks in view.strips for pick in picks})
    names = {shard: scores.read(shard, ["key"])["key"] for shard in dict.fromkeys(shard for shard, _ in wanted)}
    keys = {(shard, row): str(names[shard][row].as_py() or "") for shard, row in wanted}
    return read_thumbnails(wanted, footers, keys)


def _size(count: int) -> str:
    value, units = float(count), ["B", "kB", "MB", "GB", "TB", "PB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.3g} {units[0]}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
