"""Mean and normalisation against the published numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata

from vlfilter.errors import VlfilterError
from vlfilter.methods.self_filter.normalising import fill_with_mean, normalise

FIXTURES = Path(__file__).parents[2] / "fixtures" / "self_filter"
PUBLISHED = json.loads((FIXTURES / "scores_normalise.json").read_text())


def column(scores: dict[str, float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in scores.values()], np.float64)


def test_equals_the_published_numbers() -> None:
    judged, filled = fill_with_mean(column(PUBLISHED["gpt_raw"]), "judge_score")
    assert filled == 2
    assert judged.tolist() == list(PUBLISHED["gpt_processed"].values())
    assert normalise(judged, "minmax", "judge_score").tolist() == list(PUBLISHED["gpt_normalised"].values())


@pytest.mark.parametrize("case", json.loads((FIXTURES / "scores_normalise_degenerate.json").read_text()))
@pytest.mark.parametrize("method", ["minmax", "rank"])
def test_scores_that_tell_nothing_are_refused_by_name(case: dict[str, Any], method: str) -> None:
    with pytest.raises(VlfilterError, match="clip_score"):
        normalise(column(case["scores"]), method, "clip_score")


def test_no_mean_of_nothing() -> None:
    with pytest.raises(VlfilterError, match="2 rows has a judge_score"):
        fill_with_mean(np.array([np.nan, np.nan]), "judge_score")


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=40).filter(lambda v: min(v) != max(v)))
def test_ranks_are_mean_ranks_on_the_scale(values: list[float]) -> None:
    found = normalise(np.array(values), "rank", "x")
    assert found == pytest.approx((rankdata(values) - 1) / (len(values) - 1) * 2 - 1)


def test_an_outlier_squashes_the_range_but_not_the_ranks() -> None:
    values = np.array([1.0, 2.0, 3.0, 1000.0])
    assert normalise(values, "minmax", "x")[:3].max() < -0.99
    assert normalise(values, "rank", "x").tolist() == pytest.approx([-1, -1 / 3, 1 / 3, 1])
    with pytest.raises(VlfilterError, match="'z' is unknown: minmax, rank"):
        normalise(values, "z", "x")
