"""A benchmark's scores by category as a picture."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from vlfilter.evaluation.published import published_categories
from vlfilter.report.plots import BAR, CUT, MUTED, new_figure, plain, style

MAX_BARS = 40
MARKS = ("|", "d", "x")


def category_plot(told: Mapping[str, Any]) -> bytes:
    """PNG: a bar for each category, or for each measure where there are none, in percent by the house's rule; published
    scores are marks on the bars. Of many categories the largest are shown."""
    lines = [line for line in told["scores"] if line["fixed"] is not None]
    shown = [line for line in lines if line["category"]] or lines
    shown = sorted(sorted(shown, key=lambda line: -line["questions"])[:MAX_BARS], key=lines.index)[::-1]
    labels = [_label(line, told["scores"]) for line in shown]
    figure = new_figure(8.4, 1.3 + 0.26 * max(1, len(shown)))
    axes = figure.add_subplot(1, 1, 1)
    axes.barh(
        range(len(shown)), [line["fixed"] for line in shown], color=BAR, label=str(told["model"]).replace("$", r"\$")
    )
    axes.set_yticks(range(len(shown)), labels)
    for mark, model in zip(MARKS, published_categories(str(told["benchmark"])), strict=False):
        known = [(model["scores"].get(line["category"]), place) for place, line in enumerate(shown)]
        points = [(x, y) for x, y in known if x is not None]
        if points:
            axes.plot(
                [x for x, _ in points], [y for _, y in points], mark, color=CUT, label=f"{model['name']}, published"
            )
    axes.set_xlim(0, 100)
    axes.set_xlabel("right, %")
    axes.set_title(plain(str(told["title"])), fontsize=9)
    if shown:
        axes.legend(fontsize=7, loc="lower right")
    else:
        figure.text(0.5, 0.5, "no right answers are known", ha="center", color=MUTED)
    style(figure.axes)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()


def _label(line: Mapping[str, Any], lines: Any) -> str:
    several = len({one["measure"] for one in lines}) > 1
    parts = [line["measure"].replace("_", " ")] if several or not line["category"] else []
    parts += [line["category"]] if line["category"] else []
    return plain(f"{', '.join(parts)} ({line['questions']})")
