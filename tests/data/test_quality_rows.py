"""The published row format: what is read, what is refused with a reason, and that writing and reading agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlfilter.data.quality_rows import (
    PLACEHOLDER,
    QualityRow,
    caption_text,
    document_slots,
    document_text,
    parse_quality_row,
    read_quality_rows,
    require_levels,
    write_quality_rows,
)
from vlfilter.errors import VlfilterError


def test_rows_are_written_in_the_published_form_and_read_again(tmp_path: Path) -> None:
    rows = [
        QualityRow("0", ("a/1.jpg",), caption_text("a red car"), 3, "caption"),
        QualityRow(
            "1", ("a/1.jpg", "b.png"), document_text([None, "Then", None, "one <image> more"]), 0, "interleaved"
        ),
    ]
    url = str(tmp_path / "rows.json")
    write_quality_rows(url, rows)
    assert json.loads(Path(url).read_text()) == [
        {"image": "a/1.jpg", "text": "<image>\na red car", "label": 3},
        {
            "image": ["a/1.jpg", "b.png"],
            "text": "<image>\n\nThen\n\n<image>\n\none <image-placeholder> more",
            "label": 0,
        },
    ]
    assert read_quality_rows(url) == (rows, [])


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ([], "not an object"),
        ({"text": "x", "label": 1}, "no image"),
        ({"image": [], "text": "x", "label": 1}, "no image"),
        ({"image": ["a", None], "text": "<image><image> x", "label": 1}, "neither a path"),
        ({"image": "a", "label": 1}, "no text"),
        ({"image": ["a", "b"], "text": "<image> <image> <image> x", "label": 1}, "3 <image> for 2 images"),
        ({"image": "a", "text": "x", "label": 1}, "0 <image> for 1 images"),
        ({"image": "a", "text": "<image>\n ", "label": 1}, "nothing but"),
        ({"image": "a", "text": "<image> x", "label": 4}, "label 4"),
        ({"image": "a", "text": "<image> x", "label": 2.5}, "label 2.5"),
        ({"image": "a", "text": "<image> x", "label": True}, "label True"),
        ({"image": "a", "text": "<image> x"}, "label None"),
        ({"image": "a", "text": "<image> x", "label": [1]}, r"label \[1\]"),
    ],
)
def test_a_row_that_cannot_be_used_says_why(row: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_quality_row(row, 0)


def test_bad_rows_are_listed_beside_the_good(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    good = {"image": "a", "text": "<image> x", "label": 3.0}
    file.write_text(json.dumps([good, {"id": "seven", "image": "a", "text": "<image> x", "label": 7}, good]))
    rows, bad = read_quality_rows(str(file))
    assert [(row.id, row.label) for row in rows] == [("0", 3), ("2", 3)]
    assert bad == ["row 1 (seven): its label 7 is none of 0, 1, 2, 3"]


def test_words_are_two_levels_and_do_not_mix_with_numbers(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    words = [{"image": "a", "text": "<image> x", "label": label} for label in ("negative", "positive")]
    file.write_text(json.dumps(words))
    assert [row.label for row in read_quality_rows(str(file))[0]] == [0, 1]
    file.write_text(json.dumps([*words, {"image": "a", "text": "<image> x", "label": 3}]))
    with pytest.raises(VlfilterError, match="mixes labels"):
        read_quality_rows(str(file))


@pytest.mark.parametrize(("content", "message"), [("{}", "not a JSON list"), ("[", "not a JSON file")])
def test_a_file_that_is_no_list_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "rows.json").write_text(content)
    with pytest.raises(VlfilterError, match=message):
        read_quality_rows(str(tmp_path / "rows.json"))
    with pytest.raises(VlfilterError, match="there are no rows"):
        read_quality_rows(str(tmp_path / "none.json"))


def test_an_empty_level_is_refused_by_kind() -> None:
    rows = [QualityRow(str(label), ("a",), "<image> x", label, "caption") for label in range(4)]
    require_levels(rows, "train.json")
    document = QualityRow("d", ("a",), "<image> x", 1, "interleaved")
    with pytest.raises(VlfilterError, match=r"train.json has no interleaved row of level 0, .*level 2, .*level 3:"):
        require_levels([*rows, document], "train.json")
    with pytest.raises(VlfilterError, match="no usable row"):
        require_levels([], "train.json")


words = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\n"), min_size=1)
slots = st.lists(st.one_of(st.none(), words), min_size=1, max_size=8).filter(lambda found: None in found)


@given(slots)
def test_a_document_keeps_its_slots_in_order(document: list[str | None]) -> None:
    text = document_text(document)
    paths = [f"{i}.jpg" for i in range(document.count(None))]
    assert text.count(PLACEHOLDER) == len(paths)
    texts, images = document_slots(QualityRow("0", tuple(paths), text, 0, "interleaved"))
    assert [path for path in images if path] == paths
    assert [text is None for text in texts] == [path is not None for path in images]
    joined = document_text(texts)
    assert joined == text
