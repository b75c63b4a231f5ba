"""Reading and writing A-OKVQA's rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlfilter.data.aokvqa import (
    VqaRow,
    by_type,
    choices_text,
    parse_row,
    parse_rows,
    read_rows,
    row_json,
    write_rows,
    write_rows_by_type,
)
from vlfilter.errors import VlfilterError

ROW: dict[str, Any] = {
    "split": "val",
    "image_id": 461751,
    "question_id": "22jbM6gDxdaMaunuzgrsBB",
    "question": "What is in the motorcyclist's mouth?",
    "choices": ["toothpick", "food", "popsicle stick", "cigarette"],
    "correct_choice_idx": 3,
    "direct_answers": ["cigarette"] * 10,
    "difficult_direct_answer": False,
    "rationales": ["He is smoking.", "A cigarette."],
}


def test_a_row_comes_out_as_it_went_in(tmp_path: Path) -> None:
    rows = [
        ROW | {"model_answer": "food", "scores": [1, {"a": None}]},
        {
            "idx": "7",
            "image_path": "val2017/1.jpg",
            "correct_choice_idx": 0,
            "choices": ["x"],
            "question": "Où ？ \ud800",
        },
        {"image_id": 5, "raw_instructions": "r", "question": "q", "choices": ["a", "b"], "correct_choice_idx": 1},
        ROW | {"question_id": "other", "direct_answers": [], "rationales": []},
    ]
    place = tmp_path / "rows.json"
    place.write_text(json.dumps(rows))
    good, bad = read_rows(str(place))
    assert not bad
    assert good[0].correct_choice == "cigarette"
    assert good[0].file_name == "000000461751.jpg"
    assert good[1].question_id == "7"
    assert good[1].file_name == "val2017/1.jpg"
    again = tmp_path / "again.json"
    write_rows(str(again), good)
    assert json.dumps(json.loads(again.read_text())) == json.dumps(rows)  # the order of keys too
    write_rows(str(tmp_path / "third.json"), read_rows(str(again))[0])
    assert (tmp_path / "third.json").read_bytes() == again.read_bytes()


def test_both_forms_of_a_file(tmp_path: Path) -> None:
    typed = {"image_scene": [ROW], "image_style": [], "image_topic": [ROW | {"question_id": "b"}]}
    place = tmp_path / "typed.json"
    place.write_text(json.dumps(typed))
    good, bad = read_rows(str(place))
    assert not bad
    assert [row.question_type for row in good] == ["image_scene", "image_topic"]
    groups = by_type(good, ("image_scene", "image_style"))
    assert {kind: len(rows) for kind, rows in groups.items()} == {"image_scene": 1, "image_style": 0, "image_topic": 1}
    write_rows_by_type(str(place), groups)
    assert read_rows(str(place))[0] == [parse_row(row_json(row)) for row in good]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"question": None}, "no question"),
        ({"question": 5}, "not a text"),
        ({"choices": []}, "no choices"),
        ({"choices": ["a", 5]}, "list of texts"),
        ({"choices": "abcd"}, "list of texts"),
        ({"correct_choice_idx": 4}, "there are 4 choices"),
        ({"correct_choice_idx": -1}, "there are 4 choices"),
        ({"correct_choice_idx": True}, "whole number"),
        ({"correct_choice_idx": None}, "whole number"),
        ({"choices": ["a"] * 27}, "letters"),
        ({"image_id": ""}, "image_id"),
        ({"image_id": -3}, "image_id"),
        ({"question_id": [1]}, "question_id"),
        ({"rationales": "text"}, "rationales"),
    ],
)
def test_a_broken_row_is_told(change: dict[str, Any], said: str) -> None:
    good, bad = parse_rows([ROW | {"question_id": "first"}, ROW | change], "x.json")
    assert len(good) == 1
    assert said in bad[0].reason
    assert bad[0].number == 1


def test_ids_that_repeat_and_ids_in_quotes() -> None:
    good, bad = parse_rows([ROW, ROW, "no row", ROW | {"question_id": 9, "image_id": "0007"}], "x.json")
    assert [row.image_id for row in good] == [461751, 7]
    assert good[1].question_id == "9"
    assert [one.reason for one in bad] == ["its id is that of row 0", "the row is not an object"]
    assert str(bad[0]) == f"row 1 ({ROW['question_id']}): its id is that of row 0"


@pytest.mark.parametrize("text", ["", "{", "5", '{"a": 5}', "null", "[" * 100_000])
def test_what_is_no_file_of_questions(tmp_path: Path, text: str) -> None:
    place = tmp_path / "rows.json"
    place.write_text(text)
    with pytest.raises(VlfilterError, match=r"rows\.json"):
        read_rows(str(place))
    with pytest.raises(VlfilterError, match="there is no file"):
        read_rows(str(tmp_path / "absent.json"))


def test_choices_are_lettered() -> None:
    assert choices_text(["red", "blue"]) == "(A) red (B) blue"
    assert VqaRow("q", ("a",), 0).file_name == ""
    assert VqaRow("q", ("a",), 0, image_id="set/photo").file_name == "set/photo.jpg"
    assert VqaRow("q", ("a",), 0, image_id="photo", image_path="set/photo.png").file_name == "set/photo.png"


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*ROW, "idx", "image_path", "question_type", "x"]), _json))
def test_any_row_is_read_or_told(change: dict[str, Any]) -> None:
    good, bad = parse_rows([ROW | change], "x.json")
    assert len(good) + len(bad) == 1
    if good:
        assert parse_row(row_json(good[0])) == parse_row(row_json(parse_row(row_json(good[0]))))
