"""The data engine's rows: the published items, shuffled options, and what is wrong with others."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.methods.data_engine.fixtures import shared
from vlfilter.data.schemas.base import How, LeftOutError
from vlfilter.data.schemas.engine import ENGINE_DA, ENGINE_MC, ENGINE_MCP, _lettered, _options, shuffle
from vlfilter.data.schemas.templates import TEMPLATES

COMPAT, FIXED = How("compat", "42 engine 0"), How("fixed", "42 engine 0")
ROW = {
    "instruction": "Which?",
    "answer": "The Dog.",
    "options": ["Dog", "None", "Cat"],
    "choice_answer": "B",
    "image": "x.jpg",
}


def published() -> dict[str, Any]:
    told: dict[str, Any] = json.loads(shared("v2/engine_dataset_formats.json").read_text())
    return told


def item(asked: str, said: str) -> tuple[str, str]:
    return f"<Img><ImageHere></Img> {TEMPLATES['question'][0].replace('{}', asked)} ", said


def items(told: dict[str, Any], name: str) -> list[tuple[str, str]]:
    return [(row["instruction_input"], row["answer"]) for row in told["expected"][name]["items"]]


def with_images(told: dict[str, Any]) -> list[dict[str, Any]]:
    """The original drops rows without an image before anything else; here the check of the images does."""
    return [row for row in told["annotations"] if "999" not in row["image"]]


@pytest.mark.parametrize(("name", "schema"), [("engine_da", ENGINE_DA), ("engine_mc", ENGINE_MC)])
def test_items_are_the_published_ones(name: str, schema: Any) -> None:
    told = published()
    ours = []
    for row in with_images(told):
        try:
            example = schema.example(row, COMPAT)
        except LeftOutError:
            continue
        ours.append(item(example.asked[0], example.answers[0]))
    assert ours == items(told, name)


def test_shuffled_items_are_the_published_ones() -> None:
    """One generator for all rows in their order, as the fixture was made."""
    told, rng, ours = published(), random.Random(5), []
    for row in with_images(told):
        if "options" in row:
            example = _lettered(row, *shuffle(*_options(row), rng, "compat"), "compat")
            ours.append(item(example.asked[0], example.answers[0]))
    assert ours == items(told, "engine_mcp")


def test_fixed_keeps_words_and_capital_letters() -> None:
    long = ROW | {"answer": "One Word. " * 60}
    assert ENGINE_DA.example(long, FIXED).answers[0] == ("One Word. " * 60).strip()
    assert len(ENGINE_DA.example(long, COMPAT).answers[0].split()) == 50
    assert ENGINE_MC.example(ROW, FIXED).answers == ("B",)
    assert ENGINE_MC.example(ROW, COMPAT).answers == ("b",)


def test_an_option_may_be_called_none() -> None:
    example = ENGINE_MC.example(ROW, FIXED)
    assert "\nB. None\n" in example.asked[0]
    with pytest.raises(ValueError, match="option B is not a text"):
        ENGINE_MC.example(ROW | {"options": ["Dog", None]}, FIXED)


@pytest.mark.parametrize("schema", [ENGINE_MC, ENGINE_MCP])
def test_rows_without_a_choice_are_left_out_by_rule(schema: Any) -> None:
    for row, reason in (
        ({"options": None}, "it has no options"),
        ({"options": []}, "it has no options"),
        ({"choice_answer": None}, "it has no choice_answer"),
    ):
        with pytest.raises(LeftOutError, match=reason):
            schema.example(ROW | row, FIXED)
    assert schema.example({**ROW, "choice_answer": None, "choide_answer": "A"}, FIXED).answers


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"options": "Dog"}, "options is not a list"),
        ({"options": ["Dog"]}, "1 options are not between 2 and 26"),
        ({"options": ["Dog", " "]}, "option B is empty"),
        ({"choice_answer": "D"}, "choice_answer 'D' is no letter from A to C"),
        ({"choice_answer": 1}, "choice_answer 1 is no letter from A to C"),
        ({"choice_answer": ""}, "choice_answer '' is no letter"),
        ({"image": None}, "it names no image"),
        ({"instruction": " "}, "instruction is empty"),
    ],
)
def test_rows_that_cannot_be_used(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ENGINE_MC.example(ROW | changed, FIXED)


def test_more_than_four_options_are_fine() -> None:
    row = ROW | {"options": list("uvwxyz"), "choice_answer": "F"}
    assert "\nF. z\n" in ENGINE_MC.example(row, FIXED).asked[0]


@given(st.lists(st.sampled_from("abcd"), min_size=2, max_size=26), st.data())
def test_the_right_option_stays_right(options: list[str], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(options) - 1))
    rng = random.Random(data.draw(st.integers(0, 99)))
    moved, now = shuffle(options, place, rng, "fixed")
    assert Counter(moved) == Counter(options)
    assert moved[now] == options[place]


def test_equal_options_are_told_apart_but_in_compat() -> None:
    """Of two `same` the second is right: the label follows it, where the original takes the first."""
    places = {shuffle(["same", "b", "same"], 2, random.Random(i), "fixed")[1] for i in range(30)}
    assert places == {0, 1, 2}
    compat = [shuffle(["same", "b", "same"], 2, random.Random(i), "compat") for i in range(30)]
    assert all(place == moved.index("same") for moved, place in compat)


def test_a_row_is_always_shuffled_alike_and_rows_are_not() -> None:
    row = ROW | {"options": list("abcdefgh"), "choice_answer": "C"}
    same = {ENGINE_MCP.example(row, FIXED).asked for _ in range(3)}
    others = {ENGINE_MCP.example(row, How("fixed", f"42 engine {i}")).asked for i in range(20)}
    assert len(same) == 1
    assert len(others) > 15
    for i in range(20):
        example = ENGINE_MCP.example(row, How("fixed", f"42 engine {i}"))
        assert f"\n{example.answers[0]}. c\n" in example.asked[0]
