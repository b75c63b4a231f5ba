"""The published files from the published likelihoods, and the split that keeps steering and reporting apart."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from tests.methods.data_engine.fixtures import copied
from vlfilter.data.aokvqa import VqaRow, parse_rows
from vlfilter.errors import VlfilterError
from vlfilter.evaluation.aokvqa import compat_covered, published_scores
from vlfilter.evaluation.choices import best
from vlfilter.methods.data_engine.bad_cases import (
    Outcome,
    SplitSettings,
    bad_cases,
    eval_rows,
    steering,
    type_table,
)
from vlfilter.methods.data_engine.weights import error_rates, v2_weights

ROWS = parse_rows(copied("step1/aokvqa_val_classified.json"), "the fixture")[0]
LOSSES: dict[str, list[float]] = copied("step1/per_choice_mean_nll.json")


def answered(rows: list[VqaRow], split: SplitSettings) -> list[Outcome]:
    return [Outcome(row, split.part(row), row.choices[best(LOSSES[str(row.image_id)])]) for row in rows]


def same(found: Any, name: str) -> None:
    expected = copied(f"step1/{name}")
    assert found == expected
    assert json.dumps(found) == json.dumps(expected)  # the order of keys too


def test_the_published_files() -> None:
    covered = [ROWS[place] for place in compat_covered(len(ROWS), 1)]
    outcomes = answered(covered, SplitSettings("original"))
    same(eval_rows(outcomes, "val2017"), "expected_aokvqa_eval.json")
    same(bad_cases(outcomes, "val2017"), "expected_bad_case_aokvqa_classified.json")
    same(error_rates(steering(outcomes)), "expected_weight.json")
    expected = copied("step1/expected_metrics.json")
    scores = published_scores(ROWS, {outcome.row.question_id: outcome.answer or "" for outcome in outcomes})
    assert scores.multiple_choice == pytest.approx(expected["metrics"]["MC"], abs=1e-12)
    assert scores.direct_answer == pytest.approx(expected["metrics"]["DA"], abs=1e-12)
    assert [row.question_id for row in ROWS if row not in covered] == expected["dropped_question_ids"]


def test_without_the_loss_only_the_last_question_differs() -> None:
    found = eval_rows(answered(ROWS, SplitSettings("original")), "val2017")
    assert [row for row in found if row["idx"] != "q16"] == copied("step1/expected_aokvqa_eval.json")
    assert len(found) == len(ROWS)


def test_what_reports_does_not_steer() -> None:
    outcomes = answered(ROWS, SplitSettings(seed=3))
    parts = {outcome.row.question_id: outcome.part for outcome in outcomes}
    assert set(parts.values()) == {"steer", "report"}
    cases = bad_cases(outcomes, "val2017")
    assert {parts[case["idx"]] for some in cases.values() for case in some} == {"steer"}
    assert set(cases) == {row.question_type for row in ROWS}
    rates = error_rates(steering(outcomes))
    for kind, rate in rates.items():
        members = [one for one in outcomes if one.row.question_type == kind and one.part == "steer"]
        assert rate == round(sum(one.wrong for one in members) / len(members), 3)
    # turning every reporting answer changes nothing that steers
    turned = [replace(one, answer=one.row.choices[0]) if one.reports else one for one in outcomes]
    assert bad_cases(turned, "val2017") == cases
    assert error_rates(steering(turned)) == rates


def test_the_split_is_by_image_seeded_and_of_the_share_asked() -> None:
    split = SplitSettings(holdout=0.3, seed=1)
    rows = [VqaRow("?", ("a",), 0, str(number), image_id=number // 2) for number in range(4000)]
    parts = [split.part(row) for row in rows]
    assert parts[0::2] == parts[1::2]
    assert parts[::-1] == [split.part(row) for row in rows[::-1]]
    assert 0.26 < Counter(parts)["report"] / len(rows) < 0.34
    assert parts != [SplitSettings(holdout=0.3, seed=2).part(row) for row in rows]
    for share in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(VlfilterError, match="cannot be held out"):
            SplitSettings(holdout=share)


def test_types_and_rows_that_lack_something_are_told() -> None:
    rows = [
        VqaRow("?", ("a", "b"), 0, "1", question_type="image_scene"),
        VqaRow("?", ("a", "b"), 0, "2", question_type="image_scene"),
        VqaRow("?", ("a", "b"), 0, "3", question_type="image_style"),
        VqaRow("?", ("a", "b"), 0, "4"),
        VqaRow("?", ("a", "a"), 0, "5", image_id="x y", question_type="image_topic"),
    ]
    outcomes = [Outcome(row, "both", answer) for row, answer in zip(rows, ["b", "a", None, "b", "a"], strict=True)]
    rates = error_rates(steering(outcomes))
    assert rates == {"image_scene": 0.5, "image_topic": 0.0}
    table = {entry["type"]: entry for entry in type_table(outcomes, rates, v2_weights(rates))}
    assert list(table) == ["image_scene", "image_topic", "", "image_style"]
    assert table["image_style"] == {
        "type": "image_style", "questions": 1, "unanswered": 1, "steering": 0, "wrong": 0, "weight": None,
        "weight_v2": None, "reporting": 1, "accuracy": 0.0,
    }  # fmt: skip
    assert (table[""]["wrong"], table[""]["weight"]) == (1, None)
    assert table["image_scene"]["weight_v2"] == pytest.approx(0.5**0.5)
    cases = bad_cases(outcomes, "val2017")
    assert {kind: len(some) for kind, some in cases.items()} == {"image_scene": 1, "image_style": 0, "image_topic": 0}
    found = {row["idx"]: row for row in eval_rows(outcomes, "val2017")}
    assert set(found) == {"1", "2", "4", "5"}
    assert found["5"]["image_path"] == "x y.jpg"
    assert "question_type" not in found["4"]
    assert "prompt" not in found["4"]
    assert found["1"]["prompt"].endswith("Question type: image scene")
