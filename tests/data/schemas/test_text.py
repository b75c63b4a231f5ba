"""Texts and boxes as the published data sets write them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.methods.data_engine.fixtures import copied
from vlfilter.data.schemas.text import blip_caption, box_text


@pytest.mark.parametrize("case", copied("v2/blip_caption.json"), ids=lambda case: case["in"][:20])
def test_texts_are_the_published_ones(case: dict[str, str]) -> None:
    assert blip_caption(case["in"]) == case["out"]
    assert blip_caption(case["out"]) == case["twice"]


@pytest.mark.parametrize("case", copied("v2/bbox_text.json"), ids=lambda case: case["text"])
def test_boxes_are_the_published_ones(case: dict[str, Any]) -> None:
    assert box_text(case["bbox_xywh"], case["w"], case["h"], "compat") == case["text"]


def test_fixed_keeps_boxes_within_the_image() -> None:
    assert box_text([600, -40, 60, 600], 640, 480, "fixed") == "{<93><0><100><100>}"
    assert box_text([600, -40, 60, 600], 640, 480, "compat") == "{<93><-8><103><116>}"


@pytest.mark.parametrize(
    ("box", "size", "message"),
    [
        ([1, 2, 3], (5, 5), "its box is not four numbers"),
        ("1234", (5, 5), "its box is not four numbers"),
        ([1, 2, 3, True], (5, 5), "its box is not four numbers"),
        ([1, 2, 3, float("nan")], (5, 5), "its box is not four numbers"),
        ([1, 2, 3, 10**400], (5, 5), "its box is not four numbers"),
        ([1, 2, 3, 4], (0, 5), "its image has no width and height"),
        ([1, 2, 3, 4], (None, 5), "its image has no width and height"),
    ],
)
def test_what_is_no_box(box: Any, size: tuple[Any, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        box_text(box, *size, "fixed")


@given(st.text())
def test_a_text_is_processed_once_and_for_all(words: str) -> None:
    once = blip_caption(words)
    assert blip_caption(once) == once
    assert len(once.split(" ")) <= 50
    assert not set(once) & set('.!"()*#:;~')


@given(st.tuples(*[st.floats(-1e6, 1e6)] * 4), st.integers(1, 5000), st.integers(1, 5000))
def test_fixed_boxes_are_four_hundredths(box: tuple[float, ...], width: int, height: int) -> None:
    numbers = box_text(list(box), width, height, "fixed").strip("{<>}").split("><")
    assert len(numbers) == 4
    assert all(0 <= int(number) <= 100 for number in numbers)
