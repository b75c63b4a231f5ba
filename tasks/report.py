"""The HTML report of a selection, and its link on the run's page."""

from __future__ import annotations

import os

from prefect.artifacts import create_link_artifact

from tasks.artifacts import tolerant
from vlfilter.data.storage import absolute, is_local
from vlfilter.report.html import build_report


@tolerant
def report_link(scores: str, kept: str, rule: str) -> None:
    """Write the report of the score tables beside the subset `kept` that the rule has chosen, and link to it."""
    place = os.path.dirname(absolute(kept)) + "/report.html"
    build_report(scores, place, where=rule)
    link = f"file://{place}" if is_local(place) else place
    create_link_artifact(link, link_text="report.html", key="report", description="Scores, kept and dropped samples")
