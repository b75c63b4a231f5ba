"""Boxes in answers, the published overlap, and RefCOCO by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.methods.data_engine.fixtures import copied
from vlfilter.evaluation.benchmarks import find_benchmark
from vlfilter.evaluation.benchmarks.base import Source
from vlfilter.evaluation.boxes import iou, read_box

ROW = {"img_id": "COCO_train2014_000000581857_16", "sents": "man in blue", "bbox": [20.0, 10.0, 60.0, 40.0]}
ROW |= {"width": 200, "height": 100}
sides = st.floats(0, 1000)


@pytest.mark.parametrize("case", copied("v2/iou_plus_one.json"))
def test_the_published_overlap(case: dict[str, Any]) -> None:
    assert iou(case["a"], case["b"]) == pytest.approx(case["iou"], abs=1e-12)


@given(st.tuples(sides, sides, sides, sides), st.tuples(sides, sides, st.floats(0, 99), st.floats(0, 99)))
def test_any_overlap_is_a_share(one: tuple[float, ...], corner: tuple[float, ...]) -> None:
    two = (corner[0], corner[1], corner[0] + corner[2], corner[1] + corner[3])
    assert 0 <= iou(one, two) <= 1 + 1e-9
    assert iou(one, two) == iou(two, one)
    assert iou(two, two) == pytest.approx(1)


def read(folder: Path, rows: list[Any], tag: str = "[vqa] ") -> Any:
    (folder / "refcoco_testA.json").write_text(json.dumps(rows))
    return find_benchmark("refcoco").read(Source(str(folder), tag=tag))


def test_refcoco(tmp_path: Path) -> None:
    (question,) = read(tmp_path, [ROW]).questions
    assert question.item.message == "[refer] give me the location of man in blue"
    assert question.item.images[0] == "COCO_train2014_000000581857.jpg"
    assert read(tmp_path, [ROW], tag="").questions[0].item.message == "give me the location of man in blue"
    texts = ["{<10><10><40><50>}", "{<10><10><24><50>}", "<unk>{<10><10><27><50>}", "{<10><10><40>}", "there"]
    marks = [find_benchmark("refcoco").mark(question, text, "fixed") for text in [*texts, "{<40><50><10><10>}"]]
    assert marks == [1.0, 0.0, 1.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"bbox": [1, 2, 3]}, "bbox is not x, y, width and height"),
        ({"bbox": [1, 2, 3, "4"]}, "'4' is no number of pixels"),
        ({"width": None}, "None is no number of pixels"),
        ({"sents": ""}, "sents is empty"),
        ({"img_id": None}, "it has no img_id"),
    ],
)
def test_rows_without_a_box(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    (bad,) = read(tmp_path, [ROW | change]).bad
    assert bad.reason == reason


@given(st.text(max_size=20), st.integers(1, 999))
def test_a_box_is_read_or_not(text: str, size: int) -> None:
    found = read_box(text, size, size)
    assert found is None or len(found) == 4
