"""Which option a free text means, and which by the published rule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlfilter.evaluation.benchmarks.letters import chosen_letter, first_letter, lettered_question

OPTIONS = {"A": "a cat", "B": "Would B?", "C": "None", "D": "three dogs"}


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("a", "A"),
        ("B.", "B"),
        ("(C)", "C"),
        ("d) dog", "D"),
        ("[b]", "B"),
        ("**C**", "C"),
        ("The answer is A", "A"),
        ("the correct option is (D).", "D"),
        ("Answer: b", None),  # a small letter behind a word may be any word's
        ("A. Would B?", "A"),
        ("would b", "B"),
        ("none", "C"),
        ("A dog is there", None),
        ("An apple", None),
        ("dog", None),
        ("I think it is C", "C"),
        ("B or C", None),
        ("There are three dogs in it", "D"),
        ("A's", None),
        ("x", None),
        ("E", None),
        ("", None),
        ("   ", None),
        ("😀", None),
    ],
)
def test_the_option_that_is_meant(text: str, letter: str | None) -> None:
    assert chosen_letter(text, OPTIONS) == letter


def test_options_need_not_begin_at_a() -> None:
    assert chosen_letter("A", {"B": "yes", "C": "no"}) is None
    assert chosen_letter("No.", {"B": "yes", "C": "no"}) == "C"


def test_equal_options_are_no_answer() -> None:
    assert chosen_letter("red", {"A": "red", "B": "Red", "C": "blue"}) is None


@pytest.mark.parametrize(
    ("text", "right"), [("a", True), ("an apple", True), ("(A)", False), ("The A", False), ("", False)]
)
def test_the_published_rule_takes_the_first_character(text: str, right: bool) -> None:
    assert first_letter(text, "A") is right


texts = st.text(max_size=30) | st.text("ABCDabcd().: answeri", max_size=30)


@given(texts, st.dictionaries(st.sampled_from("ABCD"), texts, max_size=4))
def test_a_letter_that_is_meant_is_one_of_the_options(text: str, options: dict[str, str]) -> None:
    assert chosen_letter(text, options) in {None, *options}


@given(st.sampled_from("ABCD"), st.sampled_from(["{}", "({})", "{}.", "{}:", " {}\n", "Answer: {}", "It is ({})."]))
def test_a_letter_in_any_dress_is_that_letter(letter: str, dress: str) -> None:
    assert chosen_letter(dress.format(letter), OPTIONS) == letter


def test_options_stand_a_line_each() -> None:
    asked = lettered_question("Which?", {"A": "one", "B": "two"})
    assert asked.splitlines()[:3] == ["Which?", "A. one", "B. two"]
    assert len(asked.splitlines()) == 4
