"""A teacher's answer, whatever it is, becomes four rows; and what is asked fits what is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlfilter.data.quality_rows import Kind
from vlfilter.errors import VlfilterError
from vlfilter.llm.answers import check_schema, read_json
from vlfilter.llm.openai_vendor import is_strict
from vlfilter.llm.types import Answer, Outcome, Usage
from vlfilter.methods.unifilter.answers import document_slots, read_levels
from vlfilter.methods.unifilter.items import Item
from vlfilter.methods.unifilter.levels import LEVELS
from vlfilter.methods.unifilter.questions import CAPTION_WORDS, FIELDS, make_request, schema, target_words
from vlfilter.methods.unifilter.texts import Verdict, read_texts, write_texts

CAPTION = Item("a", "caption", ("1.jpg",), "here", "train")
DOCUMENT = Item("b", "interleaved", ("1.jpg", "2.jpg"), "here", "validation")


def answered(data: Any) -> Answer:
    return Answer(Outcome.ANSWERED, json.dumps(data), data, usage=Usage(900, 80), usd=0.25, model="m")


def test_a_document_has_its_images_between_its_parts() -> None:
    parts = {"before": "", "after_1": "One.\n\n Two. \n \n\nThree", "after_2": "Last.\n"}
    rows = read_levels(DOCUMENT, answered(dict.fromkeys(FIELDS, parts)))
    assert [row.level for row in rows] == [0, 1, 2, 3]
    assert all(row.slots == (None, "One.", "Two.", "Three", None, "Last.") for row in rows)
    assert rows[0].text == "<image>\n\nOne.\n\nTwo.\n\nThree\n\n<image>\n\nLast."
    assert all((row.status, row.side, row.images) == ("ok", "validation", DOCUMENT.images) for row in rows)


def test_cost_and_tokens_add_up_over_the_rows() -> None:
    rows = read_levels(CAPTION, answered(dict.fromkeys(FIELDS, "a boat")))
    assert sum(row.usd for row in rows) == 0.25
    assert (sum(row.input_tokens for row in rows), sum(row.output_tokens for row in rows)) == (900, 80)


@pytest.mark.parametrize(
    ("item", "answer", "verdict", "reason"),
    [
        (CAPTION, Answer(Outcome.REFUSED, reason="no"), Verdict.REFUSED, "no"),
        (CAPTION, Answer(Outcome.EMPTY), Verdict.EMPTY, "empty"),
        (CAPTION, Answer(Outcome.FAILED, "oops", reason="no JSON"), Verdict.FAILED, "no JSON"),
        (CAPTION, Answer(Outcome.FAILED, '{"level_0": "x"}', reason="r"), Verdict.WRONG_COUNT, "1 texts instead of 4"),
        (CAPTION, Answer(Outcome.FAILED, '{"captions": [1, 2, 3, 4, 5]}', reason="r"), Verdict.WRONG_COUNT, "5 texts"),
        (CAPTION, Answer(Outcome.FAILED, '["a", "b", "c", "d"]', reason="r"), Verdict.FAILED, "r"),
        (
            DOCUMENT,
            Answer(Outcome.FAILED, json.dumps({key: {"before": "", "after_1": ""} for key in FIELDS}), reason="r"),
            Verdict.WRONG_COUNT,
            "level_0 has 2 parts, not 3 for 2 images",
        ),
        (CAPTION, answered(dict.fromkeys(FIELDS, "<image> a boat")), Verdict.WRONG_COUNT, "1 <image> of its own"),
    ],
)
def test_what_is_no_set_of_texts_says_why(item: Item, answer: Answer, verdict: Verdict, reason: str) -> None:
    rows = read_levels(item, answer)
    assert [row.status for row in rows] == [verdict] * 4
    assert all(reason in row.reason for row in rows)


@pytest.mark.parametrize(("kind", "images"), [("caption", 1), ("interleaved", 1), ("interleaved", 10)])
def test_the_schema_holds_for_both_vendors_and_for_nothing_else(kind: Kind, images: int) -> None:
    import anthropic

    asked = schema(kind, images)
    check_schema(asked)
    assert is_strict(asked)
    anthropic.transform_schema(asked)
    parts = ("before", *(f"after_{i + 1}" for i in range(images)))
    value: Any = "x" if kind == "caption" else dict.fromkeys(parts, "x")
    assert read_json(json.dumps(dict.fromkeys(FIELDS, value)), asked)[1] == ""
    assert read_json(json.dumps(dict.fromkeys(FIELDS[:3], value)), asked)[1]
    if kind == "interleaved":
        assert read_json(json.dumps(dict.fromkeys(FIELDS, value | {"after_11": "x"})), asked)[1]


def test_the_prompt_defines_every_level_and_the_lot_draws_the_length() -> None:
    requests = [make_request("caption", f"id{i}", [], 0, 100, None) for i in range(60)]
    for request in requests:
        assert all(f"level_{level.score}: {level.caption}" in request.prompt for level in LEVELS)
    assert {target_words("caption", f"id{i}", 0) for i in range(60)} == set(CAPTION_WORDS)
    assert requests[0] == make_request("caption", "id0", [], 0, 100, None)
    document = make_request("interleaved", "x", [], 0, 100, None)
    assert all(f"level_{level.score}: {level.document}" in document.prompt for level in LEVELS)


@given(st.lists(st.text(alphabet="ab \n", max_size=8), min_size=1, max_size=5))
def test_parts_never_change_the_number_of_images(parts: list[str]) -> None:
    slots = document_slots(parts)
    assert slots.count(None) == len(parts) - 1
    assert "".join("".join(slot.split()) for slot in slots if slot) == "".join("".join(part.split()) for part in parts)


def test_the_table_of_texts_comes_back_as_it_was(tmp_path: Path) -> None:
    rows = read_levels(DOCUMENT, answered({key: {"before": "", "after_1": "x", "after_2": ""} for key in FIELDS}))
    write_texts(str(tmp_path / "texts.parquet"), rows)
    assert read_texts(str(tmp_path / "texts.parquet")) == rows
    (tmp_path / "texts.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(VlfilterError, match="no table of texts"):
        read_texts(str(tmp_path / "texts.parquet"))
