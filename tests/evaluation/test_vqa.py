"""VQA normalisation and soft accuracy against what the published evaluators gave."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.methods.data_engine.fixtures import copied
from vlfilter.evaluation import vqa_tables
from vlfilter.evaluation.vqa import (
    Evaluator,
    normalise,
    normalise_words,
    percent,
    percent_by,
    soft_accuracy,
    strip_punctuation,
    strip_text,
    vizwiz_accuracy,
)

ANSWERS: list[dict[str, str]] = copied("vqa_normalize.jsonl")
PUBLISHED: dict[str, Any] = copied("vqa_soft_accuracy.json")
CASES: list[dict[str, Any]] = PUBLISHED["cases"]


@pytest.mark.parametrize("case", ANSWERS, ids=[repr(case["raw"])[:40] for case in ANSWERS])
def test_every_step_of_the_normalisation(case: dict[str, str]) -> None:
    assert strip_text(case["raw"]) == case["stripped"]
    assert strip_punctuation(case["stripped"]) == case["after_punctuation"]
    assert normalise_words(case["stripped"]) == case["digit_article_only"]
    assert normalise(case["raw"]) == case["normalized"]


def score(case: dict[str, Any], evaluator: Evaluator) -> float:
    return soft_accuracy(
        case["pred"], case["answers"], None if case["with_answer_id"] else [0] * len(case["answers"]), evaluator
    )


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_soft_accuracy_of_both_evaluators(case: dict[str, Any]) -> None:
    assert round(100 * score(case, "official"), 2) == case["official_acc_pct"]
    assert round(100 * score(case, "lavis"), 2) == case["lavis_variant_acc_pct"]
    assert vizwiz_accuracy(case["pred"], case["answers"]) == pytest.approx(case["vizwiz_rule_acc"])


@pytest.mark.parametrize(("evaluator", "name"), [("official", "aggregate_official"), ("lavis", "aggregate_lavis")])
def test_aggregates(evaluator: Evaluator, name: str) -> None:
    scores, expected = [score(case, evaluator) for case in CASES], PUBLISHED[name]
    assert percent(scores) == expected["overall"]
    assert percent_by(scores, [case["question_type"] for case in CASES]) == expected["perQuestionType"]
    assert percent_by(scores, [case["answer_type"] for case in CASES]) == expected["perAnswerType"]


def test_tables_are_the_published_ones() -> None:
    tables = copied("vqa_tables.json")
    assert tables["contractions"] == vqa_tables.CONTRACTIONS
    assert tables["manual_map"] == vqa_tables.NUMBERS
    assert tuple(tables["articles"]) == vqa_tables.ARTICLES
    assert tuple(tables["punctuation"]) == vqa_tables.PUNCTUATION


@given(st.text(), st.lists(st.text(), min_size=1, max_size=10), st.randoms())
def test_the_order_of_the_answers_changes_nothing(prediction: str, answers: list[str], rng: Any) -> None:
    shuffled = list(answers)
    rng.shuffle(shuffled)
    both: tuple[Evaluator, ...] = ("official", "lavis")
    for evaluator in both:
        found = soft_accuracy(prediction, answers, evaluator=evaluator)
        assert 0 <= found <= 1
        assert soft_accuracy(prediction, shuffled, evaluator=evaluator) == pytest.approx(found)


def test_without_answers_there_is_no_score() -> None:
    with pytest.raises(ValueError, match="nobody"):
        soft_accuracy("cat", [])
    with pytest.raises(ValueError, match="no scores"):
        percent([])
