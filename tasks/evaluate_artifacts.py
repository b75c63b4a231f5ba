"""What people look at on an evaluation's page: scores by category, as table and picture, and the published numbers."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any

from prefect.artifacts import create_image_artifact, create_table_artifact

from tasks.artifacts import MAX_ROWS, tolerant
from vlfilter.evaluation.plots import category_plot
from vlfilter.evaluation.published import comparison
from vlfilter.evaluation.summary import category_rows, summary_line


@tolerant
def category_artifacts(told: Mapping[str, Any]) -> None:
    """A table and a picture of one benchmark."""
    rows = category_rows(told)[:MAX_ROWS]
    create_table_artifact(rows, key=artifact_key(told["benchmark"], "categories"), description=summary_line(told))
    png = base64.b64encode(category_plot(told)).decode()
    create_image_artifact(
        f"data:image/png;base64,{png}",
        key=artifact_key(told["benchmark"], "plot"),
        description=f"{told['title']}: {told['model']}",
    )


@tolerant
def comparison_artifact(told: Sequence[Mapping[str, Any]]) -> None:
    """All benchmarks beside the published numbers."""
    description = "Accuracy in %, beside the published numbers"
    create_table_artifact(comparison(told), key="evaluate-published", description=description)


def artifact_key(benchmark: str, name: str) -> str:
    return f"evaluate-{re.sub(r'[^a-z0-9]+', '-', benchmark.lower()).strip('-')}-{name}"
