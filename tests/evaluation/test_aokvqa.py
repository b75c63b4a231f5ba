"""A-OKVQA's scores against what the published script gave."""

from __future__ import annotations

from typing import Any

import pytest

from tests.methods.data_engine.fixtures import copied
from vlfilter.data.aokvqa import parse_rows
from vlfilter.evaluation.aokvqa import (
    accuracy,
    choice_message,
    compat_covered,
    direct_score,
    published_answer,
    published_scores,
)

CASE: dict[str, Any] = copied("step1/aokvqa_metric.json")
ROWS = parse_rows([{"question": "?"} | row for row in CASE["dataset"]], "the fixture")[0]
ANSWERS = {entry["idx"]: entry["model_answer"] for entry in CASE["predictions"]}


def test_the_published_scores() -> None:
    found = published_scores(ROWS, ANSWERS)
    assert found.multiple_choice == pytest.approx(CASE["expected"]["MC"], abs=1e-12)
    assert found.direct_answer == pytest.approx(CASE["expected"]["DA"], abs=1e-12)
    for key, formatted in CASE["formatted"].items():
        assert published_answer(ANSWERS[key]) == formatted["multiple_choice"]


def test_ours_does_not_cut_the_right_choice() -> None:
    assert accuracy(ROWS, ANSWERS) == 80.0  # all but the missing one
    assert accuracy([], {}) is None
    assert direct_score(ROWS[3:4], {"d": "x"}) is None  # difficult


def test_the_message_of_the_fixture() -> None:
    row = parse_rows(copied("step1/aokvqa_val_classified.json"), "the fixture")[0][0]
    told = copied("step1/expected_metrics.json")["first_question_prompt"]["suffix_segment"]
    assert choice_message(row) in told


@pytest.mark.parametrize(
    "case", copied("step1/shard_coverage.json"), ids=lambda case: f"{case['n']}-{case['world_size']}"
)
def test_what_the_published_script_loses(case: dict[str, Any]) -> None:
    covered = compat_covered(case["n"], case["world_size"])
    assert sorted(set(range(case["n"])) - set(covered)) == case["missing"]
    assert len(covered) == case["covered"]
