"""Error rates by type, as published and as the later paper weighs them."""

from __future__ import annotations

import math

from tests.methods.data_engine.fixtures import copied
from vlfilter.methods.data_engine.weights import error_rates, v2_weights


def test_the_published_rates() -> None:
    told = copied("step1/weights_micro.json")
    outcomes = [
        (kind, answer["model_answer"] != answer["gold"])
        for kind, answers in told["results"].items()
        for answer in answers
    ]
    rates = error_rates(outcomes)
    assert rates == told["expected_weight"]
    assert list(rates) == list(told["expected_weight"])


def test_the_later_paper_takes_the_root() -> None:
    rates = error_rates([("a", True), ("a", False), ("b", False)])
    assert rates == {"a": 0.5, "b": 0.0}
    assert v2_weights(rates) == {"a": math.sqrt(0.5), "b": 0.0}
    assert error_rates([]) == {}
