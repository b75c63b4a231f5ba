"""Entries of a mixture as conversations: templates, answers and image names by declaration, drawn alike every time."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.methods.minigpt_v2 import world
from vlfilter.data.schemas.templates import TEMPLATES
from vlfilter.errors import VlfilterError
from vlfilter.training.mixture import MixtureEntry, parse_mixture
from vlfilter.training.mixture_rows import draw, read_dataset

ROW = {"image": "train2014/x.jpg", "question": "What?", "answer": ["a dog"] * 7 + ["a cat"] * 3}


def entry(folder: Path, rows: Any, **fields: Any) -> MixtureEntry:
    world.write(folder / "rows.json", rows)
    own = {
        "name": "some",
        "schema": "vqa",
        "sample_ratio": 1.0,
        "images": str(folder),
        "data": str(folder / "rows.json"),
    }
    return MixtureEntry.model_validate(own | fields)


def test_answers_are_drawn_by_their_frequency(tmp_path: Path) -> None:
    told = entry(tmp_path, [ROW] * 2000)
    found = read_dataset(told, 42).rows
    counts = Counter(row.pairs[0][1] for row in found)
    assert counts["a dog"] / 2000 == pytest.approx(0.7, abs=0.03)
    assert counts["a dog"] + counts["a cat"] == 2000
    assert found == read_dataset(told, 42).rows
    assert found != read_dataset(told, 43).rows


def test_wordings_are_drawn_evenly_and_apart_from_answers(tmp_path: Path) -> None:
    rows = read_dataset(entry(tmp_path, [ROW] * 2000), 42).rows
    both = Counter((row.pairs[0][0].startswith("<image>\n[vqa] Based"), row.pairs[0][1]) for row in rows)
    for long in (True, False):
        assert both[long, "a dog"] / 2000 == pytest.approx(0.35, abs=0.03)
        assert both[long, "a cat"] / 2000 == pytest.approx(0.15, abs=0.03)


def test_a_rows_draws_depend_on_its_place_alone(tmp_path: Path) -> None:
    """More rows behind it, or another row before it that cannot be used, change nothing."""
    short = read_dataset(entry(tmp_path, [ROW] * 20), 42).rows
    longer = read_dataset(entry(tmp_path, [ROW] * 5 + [{"image": "x"}] + [ROW] * 20), 42).rows
    assert [row.turns for row in longer[:5]] == [row.turns for row in short[:5]]
    assert [row.turns for row in longer[5:19]] == [row.turns for row in short[6:]]


def test_the_commonest_answer_on_demand(tmp_path: Path) -> None:
    rows = read_dataset(entry(tmp_path, [ROW] * 50, answer="most_common"), 42).rows
    assert {row.pairs[0][1] for row in rows} == {"a dog"}


def test_templates_of_ones_own(tmp_path: Path) -> None:
    own = read_dataset(entry(tmp_path, [ROW] * 50, template=["Q: {} A:", "{} {}"]), 42).rows
    assert {row.pairs[0][0] for row in own} == {"<image>\nQ: What? A:", "<image>\nWhat? {}"}
    named = read_dataset(entry(tmp_path, [ROW], template="question"), 42).rows
    assert named[0].pairs[0][0] == "<image>\n[vqa] What?"
    braces = read_dataset(entry(tmp_path, [ROW | {"question": "{0} {}?"}], template="question"), 42).rows
    assert braces[0].pairs[0][0] == "<image>\n[vqa] {0} {}?"


def test_images_are_named_as_the_entry_says(tmp_path: Path) -> None:
    rows = [ROW, ROW | {"image": "val2014/y.jpg"}, ROW | {"image": None, "image_id": 7}]
    for fields, names in (
        ({}, ["train2014/x.jpg", "val2014/y.jpg", "7"]),
        ({"image_name": "{name}"}, ["x.jpg", "y.jpg", "7"]),
        (
            {"image_name": "COCO_{image:0>6}.jpg"},
            ["COCO_train2014/x.jpg.jpg", "COCO_val2014/y.jpg.jpg", "COCO_000007.jpg"],
        ),
    ):
        assert [row.image for row in read_dataset(entry(tmp_path, rows, **fields), 42).rows] == names
    found = read_dataset(entry(tmp_path, rows, image_contains="train2014"), 42)
    assert [row.image for row in found.rows] == ["train2014/x.jpg"]
    assert found.filtered == {"its image's path has no 'train2014'": 2}


def test_nothing_is_lost(tmp_path: Path) -> None:
    rows = [ROW, {"question_id": 5, "question": "?"}, 7, ROW | {"question": " "}]
    found = read_dataset(entry(tmp_path, rows), 42)
    assert (len(found.rows), found.unreadable) == (
        1,
        [
            "row 1 (5): it has no answer",
            "row 2 (without id): the row is not an object",
            "row 3 (train2014/x.jpg): question is empty",
        ],
    )
    assert found.rows[0].id == "some-0"
    sampled = read_dataset(entry(tmp_path, [ROW] * 30, sample_num=10), 42)
    assert (len(sampled.rows), sampled.not_sampled) == (10, 20)


def test_several_files_are_one_data_set(tmp_path: Path) -> None:
    world.write(tmp_path / "more.json", [ROW | {"question_id": "second"}])
    told = entry(tmp_path, [ROW], data=[str(tmp_path / "rows.json"), str(tmp_path / "more.json")])
    assert [row.id for row in read_dataset(told, 42).rows] == ["some-0", "second"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "data set some: there is no file .*rows.json"),
        ("{}", "data set some: .*rows.json is not a JSON list of rows"),
        ('[{"a": 1}, {"b"', "data set some: .*rows.json is not a JSON file: entry 1"),
        ("\xff", "data set some: .*rows.json is not a JSON file in UTF-8"),
    ],
)
def test_annotations_that_cannot_be_read(tmp_path: Path, content: str | None, message: str) -> None:
    told = entry(tmp_path, [])
    (tmp_path / "rows.json").unlink()
    if content is not None:
        (tmp_path / "rows.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(VlfilterError, match=message):
        read_dataset(told, 42)


def test_the_mixtures_mode_is_for_entries_that_have_modes() -> None:
    told = [
        {"name": "a", "schema": "vqa", "data": "a", "images": "i", "sample_ratio": 1},
        {"name": "b", "schema": "vqa", "data": "a", "images": "i", "sample_ratio": 1, "mode": "fixed"},
        {"name": "c", "schema": "llava", "data": "a", "images": "i", "sample_ratio": 1},
    ]
    mixture = parse_mixture({"mode": "compat", "datasets": told}, "m.yaml")
    assert [one.mode for one in mixture.datasets] == ["compat", "fixed", "fixed"]
    with pytest.raises(VlfilterError, match="Input should be 'compat' or 'fixed'"):
        parse_mixture({"mode": "old", "datasets": told}, "m.yaml")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"template": "vqb"}, "template is one of text, vqa,"),
        ({"answer": "first"}, "some.answer: Input should be 'drawn' or 'most_common'"),
        ({"image_name": "{id}.jpg"}, "image_name '{id}.jpg': write {image} or {name}"),
        ({"image_name": "{image:d}"}, "image_name '{image:d}': write {image} or {name}"),
        ({"images": None}, "images: the folder is not given"),
        ({"schema": "refcoco"}, "the data of refcoco rows are 2 files: instances.json and refs(unc).p"),
        ({"schema": "unnatural_instructions"}, "unnatural_instructions rows have no images"),
        ({"schema": "unnatural_instructions", "images": None, "image_name": "x"}, "image_name: unnatural_instructions"),
        ({"schema": "llava", "template": "vqa"}, "template: not for llava rows"),
        ({"schema": "llava", "data": ["a", "b"]}, "the data of llava rows are 1 file"),
        ({"format": "QM-A"}, "the format of vqa rows is none"),
        ({"data": []}, "some.data"),
    ],
)
def test_mistakes_in_an_entry(changed: dict[str, Any], message: str) -> None:
    told = {"name": "some", "schema": "vqa", "data": "d", "images": "i", "sample_ratio": 1}
    with pytest.raises(VlfilterError) as raised:
        parse_mixture({"datasets": [told | changed]}, "m.yaml")
    assert message in str(raised.value)


def test_every_template_has_one_place_at_most() -> None:
    assert all(text.count("{}") <= 1 for pool in TEMPLATES.values() for text in pool)
    assert draw(["only"], "any key") == "only"


def test_half_a_character_is_a_reason_and_no_crash_of_the_tokenizer(tmp_path: Path) -> None:
    row = json.loads('{"image": "x.jpg", "question": "\\ud83d?", "answer": ["b"]}')
    found = read_dataset(entry(tmp_path, [row, ROW]), 42)
    assert (len(found.rows), found.unreadable) == (
        1,
        ["row 0 (x.jpg): question holds half a character (a lone surrogate)"],
    )
