"""All schemas: wordings, whatever a file may hold in their place, and rows that lack something."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.methods.data_engine.fixtures import shared
from tests.methods.minigpt_v2.world import make_world
from vlfilter.data.schemas import SCHEMAS
from vlfilter.data.schemas.base import Example, How, LeftOutError
from vlfilter.data.schemas.templates import TEMPLATES
from vlfilter.methods.minigpt_v2.mixtures import open_mixture

HOW = How("fixed", "42 some 0")
MODES = ("compat", "fixed")
POOLS = {
    "aok_vqa_datasets.py:AOKVQADataset": "vqa",
    "coco_vqa_datasets.py:COCOVQADataset": "vqa",
    "gqa_datasets.py:GQADataset": "vqa",
    "ocrvqa_dataset.py:OCRVQADataset": "vqa",
    "coco_dataset.py:ReferCOCODataset": "refer",
    "vg_dataset.py:ReferVisualGenomeDataset": "refer",
    "coco_dataset.py:InvReferCOCODataset": "identify",
    "engine_vqa_datasets.py:ENGINEMCPVQADataset": "question",
    "flickr.py:GroundedDetailDataset": "grounding",
    "flickr.py:CaptionToObjectDataset": "detection",
    "flickr.py:PhraseToObjectDataset": "detection",
}
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def test_templates_are_the_published_ones() -> None:
    published = json.loads(shared("v2/instruction_pools.json").read_text())
    assert {name: list(TEMPLATES[ours]) for name, ours in POOLS.items()} == {name: published[name] for name in POOLS}
    for name in ("caption_datasets.py:COCOCaptionDataset", "text_caps.py:TextCapDataset"):
        assert list(TEMPLATES["caption"]) == [f"[caption] {text}" for text in published[name]]


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """An entry of every schema that can be used."""
    mixture = open_mixture("minigpt_v2_dataengine", str(make_world(tmp_path_factory.mktemp("world"))))
    found = {}
    for entry in mixture.datasets:
        schema = SCHEMAS[entry.kind]
        for told in schema.entries(entry.files):
            try:
                schema.example(told, HOW)
            except LeftOutError:
                continue
            found[entry.kind] = told
            break
    assert set(found) == set(SCHEMAS)
    return found


def spoilt(told: Any, path: list[int], value: Any) -> Any:
    """`told` with something deep in it replaced; `path` says where, modulo what there is."""
    if not path or not isinstance(told, dict | list) or not told:
        return value
    keys = list(told) if isinstance(told, dict) else list(range(len(told)))
    key = keys[path[0] % len(keys)]
    changed = dict(told) if isinstance(told, dict) else list(told)
    changed[key] = spoilt(changed[key], path[1:], value)
    return changed


# what comes from the files in an entry that is put together here
PARTS = {
    "refcoco": ("ref", "image", "box"),
    "inv_refcoco": ("ref", "image", "box"),
    "vg_regions": ("region", "image"),
    "ocr_vqa": ("question", "answer", "imageURL", "split"),
}


@pytest.mark.parametrize("kind", SCHEMAS)
@given(path=st.lists(st.integers(0, 20), min_size=1, max_size=5), value=values, mode=st.sampled_from(MODES))
def test_a_spoilt_row_is_an_example_or_has_a_reason(
    entries: dict[str, Any], kind: str, path: list[int], value: Any, mode: Any
) -> None:
    told, parts = entries[kind], PARTS.get(kind)
    if parts is None:
        told = spoilt(told, path, value)
    else:
        part = parts[path[0] % len(parts)]
        told = told | {part: spoilt(told[part], path, value)}
    try:
        example = SCHEMAS[kind].example(told, How(mode, "42 some 0"))
    except (ValueError, LeftOutError):
        return
    assert isinstance(example, Example)
    assert example.asked
    assert example.answers
    assert all(isinstance(text, str) for text in (*example.asked, *example.answers))
    assert example.image is None or isinstance(example.image, str | int)


LISTED = ("vqa", "coco_captions", "flickr_grounded_caption", "conversation", "exchange", "unnatural_instructions")


@pytest.mark.parametrize("kind", LISTED)
@given(row=values)
def test_anything_in_a_rows_place_is_a_row_that_cannot_be_used(kind: str, row: Any) -> None:
    with pytest.raises(ValueError, match=r"the row is not an object|it has no |it names no image"):
        SCHEMAS[kind].example(row, HOW)


@pytest.mark.parametrize(
    ("kind", "row", "message"),
    [
        ("vqa", {"image": "x.jpg", "answer": ["a"]}, "it has no question"),
        ("vqa", {"image": "x.jpg", "question": "?"}, "it has no answer"),
        ("vqa", {"image": "x.jpg", "question": "?", "answer": []}, "answer is an empty list"),
        ("vqa", {"image": "x.jpg", "question": "?", "answers": [{"answer": None}]}, "answers is not a text"),
        ("vqa", {"question": "?", "answer": "a"}, "it names no image"),
        ("vqa", {"question": "?", "answer": "a", "image": ["x"]}, "neither a path nor an id"),
        ("coco_captions", {"image": "x.jpg", "caption": " "}, "caption is empty"),
        ("coco_captions", {"image": "x.jpg", "caption": []}, "caption is an empty list"),
        ("textcaps", {"image_id": "x"}, "it has no caption_str"),
        ("flickr_object_to_phrase", {"image_id": 1, "phrase": "a man"}, "it has no bbox"),
        ("conversation", {"id": "1", "conversations": []}, "it has no conversations"),
        ("conversation", {"id": "1", "conversations": [{"value": "a"}] * 3}, "the last question has no answer"),
        (
            "conversation",
            {"id": "1", "conversations": [{"value": "<image>\n"}, {"value": "a"}]},
            "first question is empty",
        ),
        ("unnatural_instructions", {"instances": [{"output": "a"}]}, "it has no instruction_with_input"),
    ],
)
def test_what_a_row_lacks_is_named(kind: str, row: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SCHEMAS[kind].example(row, HOW)


def test_official_vqa_files_and_numbers_are_read_too() -> None:
    row = {"image_id": 9, "question": "How many?", "question_id": 1, "answers": [{"answer": "2"}, {"answer": 3}]}
    example = SCHEMAS["vqa"].example(row, HOW)
    assert (example.id, example.image, example.answers) == ("1", 9, ("2", "3"))


def test_a_book_with_unequal_lists_is_one_row_that_cannot_be_used(tmp_path: Path) -> None:
    books = {"b": {"questions": ["Who?", "What?"], "answers": ["I"], "imageURL": "http://x/b.jpg", "split": 1}, "c": 5}
    (tmp_path / "dataset.json").write_text(json.dumps(books))
    found = list(SCHEMAS["ocr_vqa"].entries([str(tmp_path / "dataset.json")]))
    assert [row["id"] for row in found] == ["b", "c"]
    for row in found:
        with pytest.raises(ValueError, match="not two lists of one length"):
            SCHEMAS["ocr_vqa"].example(row, HOW)


def test_a_region_of_an_unknown_image(tmp_path: Path) -> None:
    region = {"x": 1, "y": 1, "width": 5, "height": 5, "phrase": "it"}
    (tmp_path / "r.json").write_text(json.dumps([{"id": 1, "regions": [region]}, {"id": 2}]))
    (tmp_path / "i.json").write_text("[]")
    found = list(SCHEMAS["vg_regions"].entries([str(tmp_path / "r.json"), str(tmp_path / "i.json")]))
    for row, message in zip(
        found, ("image 1 is not in image_data.json", "image 1 of the file has no list"), strict=True
    ):
        with pytest.raises(ValueError, match=message):
            SCHEMAS["vg_regions"].example(row, HOW)
