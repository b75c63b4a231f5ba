from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from tests.selection.tables import schema, write_scorer
from vlfilter.data.scores import Scores
from vlfilter.report.correlation import correlate, spearman
from vlfilter.report.statistics import collect


@pytest.fixture
def frame(tmp_path: Path) -> pd.DataFrame:
    """Rows of two scorers over four shards, with missing values, ties and a large offset."""
    random = np.random.default_rng(5)
    x = random.normal(1000, 2, 800)
    y = np.round(x + random.normal(0, 2, 800))
    x[::50], y[7::90] = np.nan, np.nan
    frame = pd.DataFrame({"a.x": x, "b.y": y})
    for shard in range(4):
        part = frame.iloc[shard * 200 : shard * 200 + 200]
        write_scorer(str(tmp_path), "a", str(shard), {"x": part["a.x"].tolist()}, schema(x=pa.float64()))
        y_values = [None if np.isnan(v) else int(v) for v in part["b.y"]]
        write_scorer(str(tmp_path), "b", str(shard), {"y": y_values}, schema(y=pa.int32()))
    return frame


def test_moments_quantiles_and_keep_rates_are_those_of_pandas(frame: pd.DataFrame, tmp_path: Path) -> None:
    scores = Scores.open(str(tmp_path))
    for scorer, column in (("a", "a.x"), ("b", "b.y")):
        found = collect(scores, scorer)
        (distribution,) = found.distributions
        values = frame[column].dropna()
        assert (found.rows, distribution.count) == (800, len(values))
        assert (distribution.low, distribution.high) == (values.min(), values.max())
        assert distribution.mean == pytest.approx(values.mean(), rel=1e-12)
        assert distribution.deviation == pytest.approx(values.std(ddof=0), rel=1e-9)
        width = (distribution.stop - distribution.start) / len(distribution.counts) * (0 if column == "b.y" else 0.6)
        for share in (0.05, 0.5, 0.95):
            assert distribution.quantile(share) == pytest.approx(
                np.quantile(values, share, method="inverted_cdf"), abs=width
            )
        edges, rates = distribution.keep_rates()
        for edge, rate in list(zip(edges, rates, strict=True))[:: len(edges) // 7]:
            assert rate == pytest.approx((values >= edge).mean(), abs=0.0 if column == "b.y" else 0.005)
        bar_edges, counts = distribution.bars()
        assert counts.sum() == len(values)
        assert len(bar_edges) == len(counts) + 1


def test_whole_numbers_get_a_bar_each(frame: pd.DataFrame, tmp_path: Path) -> None:
    (distribution,) = collect(Scores.open(str(tmp_path)), "b").distributions
    edges, counts = distribution.bars()
    assert (np.diff(edges) == 1).all()
    middle = (edges[:-1] + edges[1:]) / 2
    assert dict(zip(middle, counts, strict=True))[1000] == (frame["b.y"] == 1000).sum()


def test_correlations_are_those_of_pandas(frame: pd.DataFrame, tmp_path: Path) -> None:
    scores = Scores.open(str(tmp_path))
    found = correlate(scores, [d for s in scores.schemas for d in collect(scores, s).distributions])
    assert found is not None
    assert found.columns == ("a.x", "b.y")
    assert len(found.sample) == found.rows == 800  # few rows: the sample is all of them
    np.testing.assert_allclose(found.pearson, frame.corr("pearson"), atol=1e-10)
    np.testing.assert_allclose(found.spearman, frame.corr("spearman"), atol=1e-10)


def test_a_column_without_spread_has_no_correlation() -> None:
    assert np.isnan(spearman(np.array([[1.0, 1.0], [1.0, 2.0], [1.0, 3.0]]))).tolist() == [[True, True], [True, False]]


def test_failures_are_grouped(tmp_path: Path) -> None:
    for shard in "ab":
        write_scorer(
            str(tmp_path), "s", shard, {"x": [1.0, None, None, None]}, schema(x=pa.float32()),
            status=["ok", "failed", "failed", "refused"], reason=[None, f"byte {ord(shard)} of 12", "no", None],
        )  # fmt: skip
    found = collect(Scores.open(str(tmp_path)), "s")
    assert found.statuses == {"failed": 4, "ok": 2, "refused": 2}
    assert {(f.status, f.reason, f.count, f.example) for f in found.failures} == {
        ("failed", "byte # of #", 2, "a0001"),
        ("failed", "no", 2, "a0002"),
        ("refused", "", 2, "a0003"),
    }
