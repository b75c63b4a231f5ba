"""The report's link on a run's page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
from prefect import flow

from tasks.report import report_link
from vlfilter.scoring.params import ScoreParams


def test_the_report_lies_beside_the_subset(
    toy_run: Callable[[int, int], ScoreParams], prefect_api: str, tmp_path: Path
) -> None:
    from flows.score_shards import score_shards

    params = toy_run(2, 5)

    @flow
    def choose() -> None:
        score_shards(params)
        report_link(params.output, str(tmp_path / "chosen" / "kept.npy"), "toy.toy_score >= top(30%)")

    (tmp_path / "chosen").mkdir()
    choose()
    report = tmp_path / "chosen" / "report.html"
    assert "toy_score" in report.read_text()
    asked = {"artifacts": {"key": {"any_": ["report"]}}, "sort": "CREATED_DESC"}
    latest = httpx.post(f"{prefect_api}/artifacts/filter", json=asked).raise_for_status().json()[0]
    assert latest["type"] == "markdown"
    assert f"file://{report}" in latest["data"]


def test_a_report_that_cannot_be_made_costs_a_warning(prefect_api: str, tmp_path: Path) -> None:
    @flow
    def choose() -> str:
        report_link(str(tmp_path), str(tmp_path / "kept.npy"), "toy.toy_score > 1")
        return "went on"

    assert choose() == "went on"
    assert not (tmp_path / "report.html").exists()
