from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlfilter.demo.detection import auroc, detect
from vlfilter.demo.spoil import Kind

scores = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=40)  # few values: many ties


@given(scores, scores)
def test_auroc_equals_scikit_learns(good: list[float], bad: list[float]) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    expected = metrics.roc_auc_score([1] * len(good) + [0] * len(bad), good + bad)
    assert auroc(np.array(good), np.array(bad)) == pytest.approx(expected, abs=1e-12)


def test_auroc_of_nothing_is_not_a_number() -> None:
    assert math.isnan(auroc(np.array([]), np.array([1.0])))


def test_detection_counts() -> None:
    kinds = np.array([str(k) for k in [Kind.CLEAN] * 3 + [Kind.BLANK, Kind.BLURRED]])
    kept = np.array([True, True, False, False, True])
    found = detect("some", np.array([3.0, 2.0, 0.0, 1.0, 2.5]), kinds, kept)
    assert found.keep_rate == pytest.approx(0.6)
    assert found.precision == pytest.approx(1 / 2)  # dropped: one clean, one blank
    assert found.recall == pytest.approx(1 / 2)  # of blank and blurred, the blank one
    assert found.purity == pytest.approx(2 / 3)
    assert found.auroc == pytest.approx(3 / 6)
    assert found.recall_by_kind[str(Kind.BLANK)] == 1.0
    assert found.recall_by_kind[str(Kind.BLURRED)] == 0.0
    assert math.isnan(found.recall_by_kind[str(Kind.WRONG_CAPTION)])
