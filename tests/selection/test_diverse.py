"""The diverse selection: the published procedure's order, whichever way the neighbours are found."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlfilter.data.features import Features
from vlfilter.errors import VlfilterError
from vlfilter.selection import diverse_device, diverse_neighbours
from vlfilter.selection.diverse import Difficulty, EndOfPoolError, State, select_diverse
from vlfilter.selection.diverse_similarity import canonical, cosine_of, rounding
from vlfilter.selection.diverse_state import forget_state, read_state, saver

FIXTURES = Path(__file__).parent.parent / "fixtures" / "self_filter"
CASES = json.loads((FIXTURES / "dist_filter_cases.json").read_text())
FAILURES = json.loads((FIXTURES / "dist_filter_failures.json").read_text())
MATRICES = dict(np.load(FIXTURES / "dist_filter_features.npz"))
SIMILARITIES: list[Any] = ["torch32", "canonical"]


def naive(
    features: np.ndarray,
    difficulty: Difficulty,
    budget: int,
    gamma: float,
    count: int,
    similarity: Any,
    base: float = 0,
) -> tuple[list[int], dict[int, float]]:
    """The specified procedure, every pick over all rows. `base` is subtracted from what a pick penalises with."""
    cosine = cosine_of(similarity)
    left = dict(zip(difficulty.ids.tolist(), difficulty.values.tolist(), strict=True))
    order = []
    for _ in range(budget):
        hardest = max(left, key=left.__getitem__)
        value = left.pop(hardest)
        order.append(hardest)
        sims = cosine(features, features[hardest])
        near = [i for i in np.lexsort((np.arange(len(sims)), -sims)).tolist() if i in left][:count]
        force = max(value - base, 0.0) if base else value
        for i in near:
            left[i] = left[i] - (force * (float(sims[i]) ** 2)) * gamma
    return order, left


def remaining(difficulty: Difficulty, state: State) -> dict[int, float]:
    left = np.delete(np.arange(len(difficulty)), state.order)
    return dict(zip(difficulty.ids[left].tolist(), state.values[left].tolist(), strict=True))


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_published_order_and_remaining_difficulties(case: dict[str, Any], similarity: Any) -> None:
    difficulty = Difficulty.of({int(i): value for i, value in case["difficulty"]})
    features = Features.of(MATRICES[case["features"]])
    picks = select_diverse(
        features, difficulty, case["filter_num"], case["gamma"], case["k_nearest"], similarity=similarity
    )
    assert picks.ids.tolist() == [int(i) for i in case["expected_order"]]
    left = remaining(difficulty, picks.state)
    expected = {int(i): value for i, value in case["expected_remaining"]}
    assert left.keys() == expected.keys()
    assert max(abs(left[i] - expected[i]) for i in left) <= 7e-7
    before = dict(zip(difficulty.ids.tolist(), difficulty.values.tolist(), strict=True))
    assert picks.difficulty.tolist() == [before[i] for i in picks.ids.tolist()]


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("case", FAILURES, ids=lambda case: f"{case['N']}-{case['filter_num']}-{case['k']}")
def test_end_of_the_pool(case: dict[str, Any], similarity: Any) -> None:
    size, budget, count = case["N"], case["filter_num"], case["k"]
    features = Features.of(np.load(FIXTURES / "dist_filter_fail_features.npz")[f"N{size}"])
    difficulty = Difficulty(np.arange(size), np.abs(np.random.default_rng(9).standard_normal(size)) + 0.1)
    picks = select_diverse(features, difficulty, budget, 1.0, count, similarity=similarity)
    assert picks.ids.tolist() == naive(features.matrix, difficulty, budget, 1.0, count, similarity)[0]  # type: ignore[arg-type]
    if case["raises"]:
        with pytest.raises(EndOfPoolError) as error:
            select_diverse(features, difficulty, budget, 1.0, count, similarity=similarity, strict=True)
        assert (error.value.pick, error.value.left) == (case["failed_at_pick"], case["alive_after_that_pick"])
    else:
        strict = select_diverse(features, difficulty, budget, 1.0, count, similarity=similarity, strict=True)
        assert strict.ids.tolist() == picks.ids.tolist()


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, Difficulty, int, float, int]:
    """Few rows that often repeat or oppose each other, difficulties that often tie, in any order, some ids without."""
    size = draw(st.integers(1, 30))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kinds = draw(st.integers(1, size))
    coarse = draw(st.booleans())
    base = random.standard_normal((kinds, draw(st.integers(1, 6))))
    rows = (np.round(base) if coarse else base)[random.integers(0, kinds, size)]
    if draw(st.booleans()):
        rows = rows + 1e-4 * random.standard_normal(rows.shape)
    ids = random.permutation(size)[: draw(st.integers(1, size))]
    if draw(st.booleans()):
        ids = np.sort(ids)
    values = random.standard_normal(len(ids)) - draw(st.sampled_from([0.0, 2.0, -2.0]))
    values = np.round(values, draw(st.sampled_from([0, 1, 12])))
    budget = draw(st.integers(0, len(ids)))
    gamma = draw(st.sampled_from([0.0, 0.5, 1.0, 2.0, -1.0]))
    return rows.astype(np.float32), Difficulty(ids, values), budget, gamma, draw(st.integers(0, 8))


@settings(max_examples=300, deadline=None)
@given(problems(), st.sampled_from(SIMILARITIES), st.sampled_from([3, 64]), st.integers(0, 1))
def test_equals_the_specified_procedure(
    problem: tuple[np.ndarray, Difficulty, int, float, int], similarity: Any, tile: int, short: int
) -> None:
    rows, difficulty, budget, gamma, count = problem
    with (
        mock.patch.multiple(diverse_neighbours, TILE=tile, FEWEST=2, MOST=4),
        mock.patch.object(diverse_neighbours, "list_length", lambda count: count + short),
    ):
        picks = select_diverse(Features.of(rows), difficulty, budget, gamma, count, similarity=similarity)
    order, left = naive(rows, difficulty, budget, gamma, count, similarity)
    assert picks.ids.tolist() == order
    assert remaining(difficulty, picks.state) == left


@settings(max_examples=60, deadline=None)
@given(problems(), st.data())
def test_a_stopped_run_goes_on_and_a_smaller_budget_is_a_prefix(
    problem: tuple[np.ndarray, Difficulty, int, float, int], data: st.DataObject
) -> None:
    rows, difficulty, budget, gamma, count = problem
    features = Features.of(rows)
    saved: list[State] = []
    whole = select_diverse(features, difficulty, budget, gamma, count, similarity="canonical")
    less = data.draw(st.integers(0, budget))
    part = select_diverse(
        features, difficulty, less, gamma, count, similarity="canonical", save=saved.append, save_every=3
    )
    assert part.ids.tolist() == whole.ids.tolist()[:less]
    assert [len(state.order) for state in saved] == list(range(3, less + 1, 3))
    for state in [*saved, part.state]:
        rest = select_diverse(features, difficulty, budget, gamma, count, similarity="canonical", state=state)
        assert rest.ids.tolist() == whole.ids.tolist()
        assert rest.current.tolist() == whole.current.tolist()
        assert rest.state.values.tolist() == whole.state.values.tolist()


@settings(max_examples=60, deadline=None)
@given(problems())
def test_gamma_zero_is_the_stable_top(problem: tuple[np.ndarray, Difficulty, int, float, int]) -> None:
    rows, difficulty, budget, _, count = problem
    picks = select_diverse(Features.of(rows), difficulty, budget, 0.0, count)
    assert picks.ids.tolist() == difficulty.ids[np.argsort(-difficulty.values, kind="stable")][:budget].tolist()
    assert picks.penalty.tolist() == [0.0] * budget


def clustered(size: int, dim: int = 16) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(5)
    rows = random.standard_normal((size // 10, dim))[random.integers(0, size // 10, size)]
    rows = rows + 0.3 * random.standard_normal((size, dim))
    return rows.astype(np.float32), random.standard_normal(size)


@pytest.mark.parametrize("shift", [0.0, -5.0])
def test_many_tiles_and_batches_change_nothing(shift: float) -> None:
    rows, values = clustered(1500)
    rows[700:760] = rows[0]  # more equal rows than a list is long
    difficulty = Difficulty(np.arange(1500), values + shift)
    expected = naive(rows, difficulty, 400, 1.0, 10, "canonical")
    for tile, batch in ((diverse_neighbours.TILE, 512), (100, 8), (1024, 64)):
        with mock.patch.multiple(diverse_neighbours, TILE=tile, FEWEST=batch, MOST=batch):
            picks = select_diverse(Features.of(rows), difficulty, 400, similarity="canonical")
        assert picks.ids.tolist() == expected[0]
        assert remaining(difficulty, picks.state) == expected[1]


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("most", [2**29, 4000])
def test_another_device_finds_the_same(similarity: Any, most: int) -> None:
    # cpu:0 goes the way of a GPU
    rows, values = clustered(1500)
    rows[700:760] = rows[0]
    difficulty = Difficulty(np.arange(1500), values)
    here = select_diverse(Features.of(rows), difficulty, 400, similarity=similarity)
    with mock.patch.multiple(diverse_device, TILE=400, MOST_PRODUCTS=most):
        there = select_diverse(Features.of(rows), difficulty, 400, similarity=similarity, device="cpu:0")
    assert there.ids.tolist() == here.ids.tolist()
    assert remaining(difficulty, there.state) == remaining(difficulty, here.state)


def test_float16_in_a_mapped_file_is_selected_from_as_it_is(tmp_path: Path) -> None:
    rows, values = clustered(300)
    mapped = np.memmap(tmp_path / "rows", np.float16, "w+", shape=rows.shape)
    mapped[:] = rows
    difficulty = Difficulty(np.arange(300), values)
    picks = select_diverse(Features.of(mapped), difficulty, 100, similarity="canonical")
    assert picks.ids.tolist() == naive(mapped.astype(np.float32), difficulty, 100, 1.0, 10, "canonical")[0]


def test_rows_that_are_left_out_are_nobodys_neighbours() -> None:
    rows, values = clustered(200)
    rows[[3, 50]] = np.nan
    ids = np.delete(np.arange(200), [3, 50])
    difficulty = Difficulty(ids, values[ids])
    picks = select_diverse(Features.of(rows), difficulty, 198, similarity="canonical")
    assert sorted(picks.ids.tolist()) == ids.tolist()
    with pytest.raises(VlfilterError, match="2 ids have no features, the first is 3: a feature is NaN"):
        select_diverse(Features.of(rows), Difficulty(np.arange(200), values), 5)


def test_ids_may_be_any_numbers_in_any_order() -> None:
    rows, values = clustered(120)
    names = np.random.default_rng(1).permutation(10_000)[:120]
    plain = select_diverse(Features.of(rows), Difficulty(np.arange(120), values), 50, similarity="canonical")
    named = select_diverse(Features.of(rows, names), Difficulty(names, values), 50, similarity="canonical")
    assert named.ids.tolist() == names[plain.ids].tolist()


def test_offset_free_picks_do_not_depend_on_a_constant_and_never_promote() -> None:
    rows, values = clustered(600)
    features = Features.of(rows)
    runs = {}
    for shift in (0.0, 8.0, -8.0):
        difficulty = Difficulty(np.arange(600), values + shift)
        picks = select_diverse(features, difficulty, 500, penalty="offset_free", similarity="canonical")
        assert (picks.penalty >= 0).all()
        runs[shift] = picks.ids.tolist()
        base = float(difficulty.values.min())
        assert runs[shift] == naive(rows, difficulty, 500, 1.0, 10, "canonical", base)[0]
    assert runs[0.0] == runs[8.0] == runs[-8.0]
    literal = select_diverse(features, Difficulty(np.arange(600), values - 8), 500, similarity="canonical")
    assert (literal.penalty < 0).any()


def test_the_best_rows_are_those_of_a_full_sort() -> None:
    random = np.random.default_rng(2)
    for columns, tile, length in ((5000, 700, 42), (100, 7, 42), (64, 64, 64), (3000, 3000, 5)):
        values = np.round(random.standard_normal((6, columns)), 2).astype(np.float32)
        best = diverse_neighbours._Best(6, length)
        for start in range(0, columns, tile):
            best.add(values[:, start : start + tile].copy(), start)
        rows, found = best.lists()
        np.testing.assert_array_equal(found, -np.sort(-values, axis=1)[:, :length])
        np.testing.assert_array_equal(np.take_along_axis(values, rows, axis=1), found)
        assert all(len(set(row)) == length for row in rows.tolist())


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_matrix_products_stay_within_the_bound(similarity: Any) -> None:
    random = np.random.default_rng(4)
    for dim in (3, 64, 1536):
        rows = random.standard_normal((400, dim)).astype(np.float32) + 1
        unit = rows * diverse_neighbours._inverse_lengths(rows)[:, None]
        exact = cosine_of(similarity)(rows, rows[7])
        assert np.abs(unit @ unit[7] - exact).max() <= rounding(similarity, dim)


def test_a_cosine_does_not_depend_on_the_rows_beside_it() -> None:
    random = np.random.default_rng(6)
    rows = random.standard_normal((200, 100)).astype(np.float32)
    rows[150] = rows[20]
    some = random.permutation(200)[:37]
    for similarity in SIMILARITIES:
        cosine = cosine_of(similarity)
        whole = cosine(rows, rows[3])
        np.testing.assert_array_equal(cosine(rows[some], rows[3]), whole[some])
        assert whole[150] == whole[20]
    zero = canonical(np.zeros((2, 100), np.float32), rows[0])
    assert zero.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budget": 21}, "the pool has 20 candidates"),
        ({"budget": -1}, "the pool has 20"),
        ({"gamma": math.nan}, "gamma nan"),
        ({"neighbours": -1}, "neighbours -1"),
        ({"penalty": "none"}, "literal, offset_free"),
        ({"similarity": "exact"}, "torch32, canonical"),
        ({"difficulty": Difficulty(np.arange(20), np.where(np.arange(20) % 7 == 3, np.nan, 1.0))}, "ids 3, 10, 17"),
        ({"difficulty": Difficulty(np.arange(20) % 19, np.ones(20))}, "more than one difficulty: 0"),
        ({"state": State(np.array([1, 1]), np.ones(20))}, "does not belong"),
        ({"state": State(np.array([1]), np.ones(19))}, "does not belong"),
    ],
)
def test_bad_input_is_refused(change: dict[str, Any], message: str) -> None:
    rows, values = clustered(20)
    arguments = {"difficulty": Difficulty(np.arange(20), values), "budget": 5, "similarity": "canonical", **change}
    with pytest.raises(VlfilterError, match=message):
        select_diverse(Features.of(rows), **arguments)


def test_a_saved_state_is_read_back_by_the_run_that_made_it_only(tmp_path: Path) -> None:
    output = str(tmp_path / "deep" / "picks.parquet")
    state = State(np.array([4, 2]), np.array([0.1, -1 / 3, 5.0, 2.0, 1e-300]))
    saver(output, "abc")(state)
    back = read_state(output, "abc")
    assert back is not None
    assert back.order.tolist() == state.order.tolist()
    assert back.values.tolist() == state.values.tolist()
    assert read_state(output, "other") is None
    path = tmp_path / "deep" / "picks.parquet.state.npz"
    path.write_bytes(path.read_bytes()[:-40])
    assert read_state(output, "abc") is None
    forget_state(output)
    assert not path.exists()
    assert read_state(output, "abc") is None


def test_importing_loads_no_torch() -> None:
    code = "import sys, vlfilter.data.features, vlfilter.selection.diverse_state; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
