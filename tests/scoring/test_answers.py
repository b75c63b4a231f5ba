"""Reading a number from what was answered: ours, and the published reader's quirks."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vlfilter.scoring.answers import rationale, read_original, read_score

PUBLISHED: dict[str, int | None] = {
    "85": 85, " 85": 85, "85\n": 85, "8\n5": 8, "10": 10, "100": 100, "5\nT": 5, "85,": 85, ",85;": 85, "85;,": 85,
    "+7": 7, "-3": -3, "8_5": 85, "85.": None, "8 5": None, "Score: 85": None, "85,;": None, "85</s>": None, "": None,
    "N/A": None,
}  # fmt: skip
OURS: dict[str, int | None] = {
    "8_5": None, "-3": None, "": None, "N/A": None, "101": None, "1000": None, "85.5": None, "about 85": None,
    "Score: -3": None, "Score: 850": None, "8*5": 8, "85.": 85, "85</s>": 85, "85,;": 85, "\n85": 85,
    "Score: 85": 85, "Image-Text Matching score: 85": 85, "**Score:** 85": 85, "score = **85**": 85, "**85**": 85,
    "85\nscore: 3": 85, "the score\n85": None, "00085": 85, "0": 0,
}  # fmt: skip


@pytest.mark.parametrize(("text", "value"), PUBLISHED.items())
def test_the_published_reader(text: str, value: int | None) -> None:
    assert read_original(text) == value


def test_what_the_first_version_stripped_is_read() -> None:
    assert read_original("85</s>".strip().strip("</s>")) == 85


@pytest.mark.parametrize("text", [text for text, value in PUBLISHED.items() if value is not None and text != "8_5"])
def test_ours_agrees_wherever_that_gives_0_to_100(text: str) -> None:
    value = PUBLISHED[text]
    assert read_score(text) == (value if value is not None and 0 <= value <= 100 else None)


@pytest.mark.parametrize(("text", "value"), OURS.items())
def test_ours_is_strict_and_knows_labels(text: str, value: int | None) -> None:
    assert read_score(text) == value


@settings(max_examples=400, deadline=None)
@given(st.text() | st.text("0123456789 -+,;_*.\n:scoreSCORE", max_size=12) | st.integers(-200, 200).map(str))
@example("-0")
@example("٨٥")
@example("9" * 5000)
@example("\x1c85")
@example("score" * 20_000)
def test_no_text_breaks_the_readers_and_they_agree(text: str) -> None:
    ours, theirs = read_score(text), read_original(text)
    assert ours is None or 0 <= ours <= 100
    if theirs is not None and 0 <= theirs <= 100 and "_" not in text:
        assert ours == theirs


@pytest.mark.parametrize(
    ("text", "reasons"),
    [
        ("85\nThe caption fits.", "The caption fits."),
        (" 85\n\nTwo lines,\n\nand a third.", "Two lines,\n\nand a third."),
        ("Score: 85\nIt fits.", "It fits."),
        ("85. It fits.\nWell.", "It fits.\nWell."),
        ("**85**", ""),
        ("85", ""),
        ("", ""),
        ("I cannot say.\n85", "I cannot say.\n85"),
    ],
)
def test_reasons_follow_the_number(text: str, reasons: str) -> None:
    assert rationale(text) == reasons
