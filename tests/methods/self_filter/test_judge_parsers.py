"""The judge's prompt and parsers, against answers read by the published functions."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlfilter.errors import VlfilterError
from vlfilter.llm.types import Answer, Outcome
from vlfilter.methods.self_filter.judge_parsers import NoScoreError, check_parser, read_score
from vlfilter.methods.self_filter.judge_prompt import judge_prompt
from vlfilter.methods.self_filter.judge_rows import read_answer, read_text

FIXTURES = Path(__file__).parents[2] / "fixtures" / "self_filter"
CASES: list[dict[str, Any]] = json.loads((FIXTURES / "gpt_parse.json").read_text())


def test_the_prompt_is_the_published_one() -> None:
    case = json.loads((FIXTURES / "gpt_prompt.json").read_text())
    prompt = judge_prompt(case["text"])
    assert prompt == case["prompt"]
    assert hashlib.sha256(prompt.encode()).hexdigest() == case["sha256"]
    assert judge_prompt("{text} {0} %s\\").count("{text} {0} %s\\") == 1


@pytest.mark.parametrize("case", CASES, ids=lambda case: repr(case["content"]))
def test_original_reads_as_published(case: dict[str, Any]) -> None:
    if "raises" in case or case.get("score", 0) is None:
        with pytest.raises(NoScoreError):
            read_score(case["content"], "original")
        return
    expected = float(case["score_special"] if "score_special" in case else case["score"])
    found = read_score(case["content"], "original")
    assert (math.isnan(found) and math.isnan(expected)) or found == expected


def test_all_of_the_published_cases_are_here() -> None:
    assert len(CASES) == 61


SCORES = {
    "8": 8, "8\nThe response is good": 8, "9.5": 9.5, "Score: 8": 8, "Score:8": 8, "8/10": 8, "7 /10": 7, "8 / 10": 8,
    "Rating: 8.5/10": 8.5, "8 out of 10": 8, "8 of 10": 8, "I would rate this 9": 9, "The score is 9.": 9, "**8**": 8,
    "8,": 8, "(8)": 8, "  7  \n foo": 7, "\n\n6\nbar": 6, "10": 10, "0": 0, "+7": 7, "７": 7, "٨": 8, "Score:\t8": 8,
    "8\tgood": 8, "8 9": 8, "8.0.": 8, ".5": 0.5, "5.": 5, "7/10/2": 7, "8 /": 8, "8 out of": 8, "Score: 9/10. Good": 9,
    "score = 4": 4, "On a scale of 0 to 10, I rate it 6": 6, "On a scale from 1-10: 7": 7, "GPT4 gives 8": 8,
    "gpt-4 gives 8": 8, "Score - 8": 8, "10/10": 10, "10 out of 10": 10, "Quality score: 8.7 ": 8.7, "0/10": 0,
    "8 for the 2 answers": 8, "8 or so": 8,
}  # fmt: skip
NONE = {
    "85": "not between", "-5": "not between", "−3": "not between", "11/10": "not between", "1e1": "no plain number",
    "1_0": "no plain number", "0x8": "no plain number", "8½": "no plain number", "8th": "no plain number",
    "1,000": "no plain number", "8,5": "no plain number", "1.2.3": "no plain number", "80%": "no plain number",
    "8:30": "no plain number", "8-9": "a range", "7 to 8": "a range", "7 or 8": "a range", "4/5": "a scale of 5",
    "80/100": "a scale of 100", "4 out of 5": "a scale of 5", "inf": "no number", "nan": "no number",
    "N/A": "no number", "": "no number", "Ten": "no number", "Based on the quality": "no number",
    "On a scale of 0 to 10, I": "no number",
}  # fmt: skip


@pytest.mark.parametrize(("answer", "score"), SCORES.items(), ids=repr)
def test_strict_reads_the_first_number(answer: str, score: float) -> None:
    assert read_score(answer, "strict") == score


@pytest.mark.parametrize(("answer", "reason"), NONE.items(), ids=repr)
def test_strict_says_why_there_is_none(answer: str, reason: str) -> None:
    with pytest.raises(NoScoreError, match=reason):
        read_score(answer, "strict")


@given(answer=st.text() | st.text(alphabet="0123456789.,-/ outf\n"))
def test_strict_gives_a_score_between_0_and_10_or_a_reason(answer: str) -> None:
    try:
        score = read_score(answer, "strict")
    except NoScoreError as error:
        score = len(str(error)) / 20
    assert 0 <= score <= 10


def test_an_unknown_parser_is_refused() -> None:
    assert check_parser("original") == "original"
    with pytest.raises(VlfilterError, match="strict, original"):
        check_parser("lenient")


@pytest.mark.parametrize("answer", ["nan", "inf", "-Infinity"])
def test_a_row_never_holds_what_is_not_finite(answer: str) -> None:
    """The published script takes these, and one of them spoils the normalisation of all scores."""
    row = read_text(3, answer, "original")
    assert (row.id, row.judge_score, row.answer, row.status, row.open) == (3, None, answer, "failed", False)
    assert "not a finite number" in str(row.reason)


@pytest.mark.parametrize(
    ("answer", "status", "open_"),
    [
        (Answer(Outcome.ANSWERED, "8", reason="cut off at max_tokens=10"), "ok", False),
        (Answer(Outcome.REFUSED, reason="no"), "refused", False),
        (Answer(Outcome.EMPTY, reason="no text"), "failed", True),
        (Answer(Outcome.FAILED, reason="gone"), "failed", True),
        (Answer(Outcome.ANSWERED, "hm"), "failed", False),
    ],
)
def test_what_may_be_asked_again(answer: Answer, status: str, open_: bool) -> None:
    row = read_answer(0, answer, "strict")
    assert (row.status, row.open) == (status, open_)
    assert (row.reason is None) == (status == "ok")
