"""Nearest neighbours: equal to the original's cosine and top-k, batched or one by one, ties in a fixed order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlfilter.errors import VlfilterError
from vlfilter.retrieval.index import ImageIndex, index_of, unit

FIXTURE = Path(__file__).parent.parent / "fixtures" / "data_engine" / "step2" / "retrieval.npz"


@pytest.fixture(scope="module")
def case() -> dict[str, np.ndarray]:
    with np.load(FIXTURE) as file:
        return dict(file)


def test_top_50_of_the_published_procedure(case: dict[str, np.ndarray]) -> None:
    index = index_of(range(300), case["embeds"])
    found = index.search(case["queries"], 50)
    for query in range(len(case["queries"])):
        ours, theirs = found.rows[query], case["top50"][query]
        assert set(ours) == set(theirs)
        cosine = case["cosine"][query]
        np.testing.assert_allclose(found.cosine[query], cosine[ours], atol=1e-6)
        # the same order but for exact ties, which differ by no more than rounding
        np.testing.assert_allclose(cosine[ours], cosine[theirs], atol=1e-6)


def test_all_cosines_when_k_is_larger_than_the_index(case: dict[str, np.ndarray]) -> None:
    found = index_of(range(300), case["embeds"]).search(case["queries"], 10_000)
    assert found.rows.shape == (6, 300)
    for query in range(6):
        assert sorted(found.rows[query]) == list(range(300))
        by_row = np.empty(300, np.float32)
        by_row[found.rows[query]] = found.cosine[query]
        np.testing.assert_allclose(by_row, case["cosine"][query], atol=1e-6)
        assert by_row[40] == 0  # the zero vector


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 60), q=st.integers(1, 9), k=st.integers(1, 70))
def test_batched_equals_one_by_one(seed: int, n: int, q: int, k: int) -> None:
    random = np.random.default_rng(seed)
    vectors = random.integers(-2, 3, (n, 4)).astype(np.float32)  # small integers: many exact ties
    queries = random.integers(-2, 3, (q, 4)).astype(np.float32)
    index = index_of([f"i{i}" for i in range(n)], vectors)
    together = index.search(queries, k)
    assert together.rows.shape == (q, min(n, k))
    for i in range(q):
        exact = unit(vectors).astype(np.float64) @ unit(queries[i : i + 1])[0].astype(np.float64)
        best = np.sort(exact)[::-1][: min(n, k)]
        np.testing.assert_allclose(together.cosine[i], best, atol=1e-6)
        np.testing.assert_allclose(exact[together.rows[i]], best, atol=1e-6)
        assert len(set(together.rows[i])) == min(n, k)


def test_of_equal_cosines_the_lower_row_goes_first() -> None:
    index = index_of([5, 3, 9, 1], np.array([[0, 1], [1, 0], [1, 0], [1, 0]]))
    assert [index.ids[row] for row in index.search([2.0, 0.0], 4).rows[0]] == [3, 9, 1, 5]


def test_repeated_ids_and_vectors_that_are_no_numbers_are_counted() -> None:
    index = index_of([1, 2, 1, 3], np.array([[1, 0], [np.nan, 1], [0, 1], [3, 4]]))
    assert index.ids == (1, 3)
    np.testing.assert_allclose(index.vectors, np.array([[1, 0], [0.6, 0.8]]), rtol=1e-6)
    assert index.left_out == {"the vector is not finite": 1, "the id occurs twice": 1}


def test_what_cannot_be_searched() -> None:
    with pytest.raises(VlfilterError, match="index is empty"):
        index_of([], np.empty((0, 4)))
    with pytest.raises(VlfilterError, match="more than once"):
        ImageIndex((1, 1), np.eye(2, dtype=np.float32))
    index = index_of([1, 2], np.eye(2))
    for query, k, why in (([1.0, 0, 0], 1, "3 dimensions"), ([1.0, 0], 0, "at least 1"), ([np.inf, 0], 1, "infinity")):
        with pytest.raises(VlfilterError, match=why):
            index.search(query, k)
    assert index.search(np.empty((0, 2)), 5).rows.shape == (0, 2)
