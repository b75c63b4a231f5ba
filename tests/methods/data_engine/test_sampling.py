"""Types by their weights: published draws and shares; types with too few bad cases are told, not lost."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.methods.data_engine.query_parts import load, row
from vlfilter.errors import VlfilterError
from vlfilter.methods.data_engine.sampling import TypePlan, deduplicate, likeness, plan_types
from vlfilter.methods.data_engine.weights import probabilities, read_weights, v2_weights


def test_published_draws() -> None:
    case = load("qtype_sampling.json")
    plan = TypePlan(tuple(case["population"]), tuple(case["weights"]), {})
    rng = random.Random(case["seed"])
    assert [plan.draw(rng) for _ in case["sequence"]] == case["sequence"]


def test_published_shares() -> None:
    case = load("abs_probabilities.json")
    assert probabilities(case["v1_demo_weight"]) == pytest.approx(case["v1_demo_probability"], abs=1e-12)
    rates = {kind: 1 - accuracy / 100 for kind, accuracy in case["v2_baseline_accuracy_pct"].items()}
    ratios = v2_weights(rates)
    assert ratios == pytest.approx(case["v2_ratio"], abs=1e-12)
    assert probabilities(ratios) == pytest.approx(case["v2_probability"], abs=1e-12)


def test_types_that_back_off_are_told_and_the_others_take_their_share() -> None:
    cases = {"a": [row(1), row(2)], "b": [row(3)], "c": [], "d": [row(4), row(5), row(6)], "e": [row(7), row(8)]}
    plan = plan_types(cases, {"a": 0.3, "b": 0.5, "c": 0.0, "d": 0.2}, 2)
    assert plan.types == ("a", "d")
    assert plan.shares == pytest.approx({"a": 0.6, "d": 0.4})
    assert {kind: (off.bad_cases, off.share) for kind, off in plan.backed_off.items()} == {
        "b": (1, 0.5), "c": (0, 0.0), "e": (2, 0.0)
    }  # fmt: skip
    assert "1 bad cases, and 2 are shown" in plan.backed_off["b"].why
    assert "no mistake" in plan.backed_off["c"].why
    assert "no weight" in plan.backed_off["e"].why


def test_equal_weights_where_none_are_given() -> None:
    plan = plan_types({kind: [row(1), row(2)] for kind in "abcd"}, None, 2)
    assert plan.shares == dict.fromkeys("abcd", 0.25)
    drawn = Counter(plan.draw(random.Random(n)) for n in range(4000))
    assert all(850 < drawn[kind] < 1150 for kind in "abcd")


@pytest.mark.parametrize(
    ("cases", "weights", "why"),
    [
        ({}, None, "no bad cases at all"),
        ({"a": [row(1)]}, {"a": 1.0}, "a: 1 bad cases"),
        ({"a": [row(1), row(2)]}, {"a": 0.0}, "weight is 0"),
        ({"a": []}, None, "a: 0 bad cases"),
    ],
)
def test_nothing_to_ask_about(cases: dict, weights: dict | None, why: str) -> None:
    with pytest.raises(VlfilterError, match=why):
        plan_types(cases, weights, 2)


@pytest.mark.parametrize("text", ["[]", '{"a": -0.1}', '{"a": 1.5}', '{"a": "x"}', '{"a": NaN}', '{"a": true}', "{"])
def test_weights_that_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "weight.json").write_text(text)
    with pytest.raises(VlfilterError, match=r"weight\.json"):
        read_weights(str(tmp_path / "weight.json"))


def test_weights_from_a_file(tmp_path: Path) -> None:
    demo = load("abs_probabilities.json")["v1_demo_weight"]
    (tmp_path / "weight.json").write_text(json.dumps(demo))
    assert read_weights(str(tmp_path / "weight.json")) == demo


def test_near_duplicates_go() -> None:
    questions = ["What is the man doing?", "what is the man doing", "What is the dog eating?", "Where is it?"]
    rows = [row(i, question=question) for i, question in enumerate(questions)]
    kept = {tuple(r.question_id for r in deduplicate(rows, 0.9, random.Random(seed))) for seed in range(20)}
    assert kept == {("q0", "q2", "q3"), ("q1", "q2", "q3")}


@given(
    st.lists(st.lists(st.sampled_from("abcd"), max_size=4).map(" ".join), max_size=12),
    st.floats(0, 1),
    st.integers(0, 99),
)
def test_no_two_that_stay_are_alike_and_each_that_goes_has_one_that_stays(
    questions: list[str], threshold: float, seed: int
) -> None:
    rows = [row(i, question=question or "?") for i, question in enumerate(questions)]
    kept = deduplicate(rows, threshold, random.Random(seed))
    counts = {r.question_id: Counter(r.question.replace("?", "").split()) for r in rows}
    names = [r.question_id for r in kept]
    assert names == sorted(names, key=lambda name: int(name[1:]))
    for a in rows:
        alike = [n for n in names if n != a.question_id and likeness(counts[n], counts[a.question_id]) > threshold]
        assert bool(alike) == (a.question_id not in names)
