"""Captions and boxes as text: the published fixtures, and files with holes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.methods.data_engine.query_parts import STEP2, write_inputs
from vlfilter.errors import VlfilterError
from vlfilter.methods.data_engine.image_info import Box, box_text, caption_text, read_coco, read_regions, region_text
from vlfilter.methods.data_engine.queries import MAX_BOXES, unusable


def test_published_descriptions(tmp_path: Path) -> None:
    paths = write_inputs(tmp_path)
    book = read_coco(paths["captions"], paths["instances"])
    assert book.skipped == {}
    lines = [json.loads(line) for line in (STEP2 / "expected_image_descriptions.jsonl").read_text().splitlines()]
    assert len(lines) == len(book.facts) == 40
    for line in lines:
        facts = book.facts[line["image_id"]]
        assert caption_text(facts) == line["caption_text"]
        too_many = unusable(facts, MAX_BOXES)
        assert (None if too_many else box_text(facts)) == line["bbox_desc"]
        if too_many:
            assert too_many == "more than 10 boxes"


def coco(folder: Path, name: str, **fields: object) -> str:
    path = folder / name
    path.write_text(json.dumps(fields))
    return str(path)


def test_entries_that_say_nothing_are_counted(tmp_path: Path) -> None:
    images = [{"id": 1, "width": 10, "height": 10}, {"id": 2}, {"id": 3, "width": 10, "height": 20}]
    box = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 7], "segmentation": [[1, 2]]}
    annotations = [
        box, box, {**box, "iscrowd": 1, "bbox": [0, 0, 5, 5]}, {**box, "image_id": 9}, {**box, "category_id": 7},
        {**box, "bbox": [1, 2]}, {**box, "bbox": None}, {**box, "image_id": 2}, {**box, "image_id": [1]},
    ]  # fmt: skip
    instances = coco(
        tmp_path, "i.json", images=images, annotations=annotations, categories=[{"id": 1, "name": "potted plant"}]
    )
    captions = coco(
        tmp_path,
        "c.json",
        annotations=[
            {"image_id": 1, "caption": "one"}, {"image_id": 1, "caption": "one"}, {"image_id": 5, "caption": "five"},
            {"image_id": 1, "caption": " "}, {"caption": "whose?"},
        ],
    )  # fmt: skip
    book = read_coco(captions, instances)
    assert set(book.facts) == {1, 2, 3, 5}
    assert box_text(book.facts[1]) == "potted plant : [0.0, 0.0, 0.5, 0.7]\npotted plant : [0.0, 0.0, 0.5, 0.5]\n"
    assert book.facts[1].captions == ("one",)
    assert book.skipped == {
        "a caption without text or image id": 2,
        "a box of an image that is not listed": 2,
        "a box without a category": 1,
        "a box that is no four numbers": 3,
    }
    assert unusable(book.facts[3], MAX_BOXES) == "neither captions nor boxes"
    assert unusable(book.facts.get(77), MAX_BOXES) == "not in the annotations"
    assert unusable(book.facts[5], MAX_BOXES) is None


def test_one_of_the_two_files_is_enough(tmp_path: Path) -> None:
    paths = write_inputs(tmp_path)
    assert not any(facts.boxes for facts in read_coco(paths["captions"], None).facts.values())
    assert not any(facts.captions for facts in read_coco(None, paths["instances"]).facts.values())
    with pytest.raises(VlfilterError, match="neither captions nor instances"):
        read_coco(None, None)


@pytest.mark.parametrize(
    ("text", "why"), [("[]", "no COCO file"), ("{", "not a JSON"), ('{"annotations": [1]}', "no list")]
)
def test_files_of_another_form(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(VlfilterError, match=why):
        read_coco(str(tmp_path / "x.json"), None)
    with pytest.raises(VlfilterError, match="there is no file"):
        read_coco(str(tmp_path / "none.json"), None)


def test_visual_genome_and_text_lines(tmp_path: Path) -> None:
    regions = [
        {"id": 1, "regions": [
            {"phrase": "Plane taking\noff in the sky. ", "x": 27, "y": 37, "width": 49, "height": 30},
            {"phrase": "no box"},
        ]},
        {"id": 8, "regions": []},
    ]  # fmt: skip
    (tmp_path / "r.json").write_text(json.dumps(regions))
    (tmp_path / "i.json").write_text(json.dumps([{"image_id": 1, "width": 100, "height": 100}]))
    lines = [{"image_id": 1, "box": [0.13, 0.53, 0.29, 0.69], "text": "STOP"}, {"image_id": 3, "box": [], "text": "x"}]
    (tmp_path / "o.json").write_text(json.dumps(lines))
    book = read_regions(str(tmp_path / "r.json"), str(tmp_path / "i.json"), str(tmp_path / "o.json"))
    assert region_text(book.facts[1].regions) == "[0.27, 0.37, 0.76, 0.67]: Plane taking off in the sky.\n"
    assert region_text(book.facts[1].ocr) == "[0.13, 0.53, 0.29, 0.69]: STOP\n"
    assert book.facts[1].ocr == (Box("STOP", 0.13, 0.53, 0.29, 0.69),)
    assert sum(book.skipped.values()) == 3
