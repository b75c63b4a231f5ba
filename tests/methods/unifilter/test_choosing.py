"""Images from shards and folders: what is taken, what is counted, and that nothing stands on both sides."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.helpers import document, jpeg, make_tar, pair, pairs, picture, png
from vlfilter.errors import VlfilterError
from vlfilter.methods.unifilter.choosing import ChoiceSettings, choose_images
from vlfilter.methods.unifilter.grouping import similar_sets
from vlfilter.methods.unifilter.items import Item, read_items
from vlfilter.selection.likeness import connected, near_copies, thumbnail


def choose(folder: Path, **given: Any) -> tuple[list[Item], dict[str, Any]]:
    chosen = ChoiceSettings(**{"validation": 0.4, **given})
    summary = choose_images(str(folder / "images"), str(folder / "items.json"), chosen)
    return read_items(str(folder / "items.json")), summary


def files(folder: Path, count: int) -> str:
    for i in range(count):
        place = folder / "files" / f"page{i // 4}" / f"{i}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(jpeg(i, (40, 30)))
    return str(folder / "files")


def test_a_folder_of_images(tmp_path: Path) -> None:
    items, summary = choose(tmp_path, caption_source=files(tmp_path, 20), captions=12)
    assert len(items) == 12
    originals = {jpeg(i, (40, 30)) for i in range(20)}
    assert all((tmp_path / "images" / item.images[0]).read_bytes() in originals for item in items)
    assert summary["kinds"]["caption"]["samples"] == 20
    again, _ = choose(tmp_path, caption_source=str(tmp_path / "files"), captions=12)
    assert again == items
    other, _ = choose(tmp_path, caption_source=str(tmp_path / "files"), captions=12, seed=1)
    assert {item.id for item in other} != {item.id for item in items}


def test_files_of_one_subfolder_make_sets(tmp_path: Path) -> None:
    items, _ = choose(tmp_path, document_source=files(tmp_path, 40), documents=10, set_size=3)
    assert len(items) == 10
    assert all(len(item.images) == 3 for item in items)
    assert all(len({part.split("/")[0] for part in item.origin.split(" … ")}) == 1 for item in items)


def test_pairs_with_like_captions_make_sets(tmp_path: Path) -> None:
    subjects = ("boats harbour sailing", "mountain snow hiking", "bread oven bakery")
    samples = [(f"{i:04d}", pair(f"{i:04d}", f"{subjects[i % 3]} number{i}")) for i in range(45)]
    make_tar(tmp_path / "0.tar", samples)
    items, _ = choose(tmp_path, document_source=str(tmp_path / "0.tar"), documents=15, set_size=3)
    assert len(items) == 15
    same = [len({int(part.split()[-1]) % 3 for part in item.origin.split(" + ")}) == 1 for item in items]
    assert same.count(True) >= 14


def test_what_cannot_be_used_is_counted_and_replaced(tmp_path: Path) -> None:
    samples = pairs(20)
    samples[3] = ("bad", {"jpg": b"\xff\xd8 no image", "txt": b"x"})
    samples[5] = ("none", {"txt": b"no image here"})
    samples[7] = ("tiny", {"png": png(1, (4, 4)), "txt": b"x"})
    samples[9] = ("copy", {**samples[8][1], "json": b"{}"})  # another uid, the same bytes
    samples[11] = ("nocaption", {"jpg": jpeg(77)})
    make_tar(tmp_path / "0.tar", samples)
    (tmp_path / "1.tar").write_bytes(b"this is no tar" * 100)
    items, summary = choose(tmp_path, caption_source=str(tmp_path), captions=20)
    told = summary["kinds"]["caption"]
    assert len(items) == 16
    assert told["problems"] == {"corrupt_image": 1, "missing_image": 1, "unsupported": 2}
    assert len(told["broken_shards"]) == 1
    assert len(summary["unusable"]) == 3
    assert all(problem["reason"] for problem in summary["unusable"])
    fewer, _ = choose(tmp_path, caption_source=str(tmp_path / "0.tar"), captions=12)
    assert len(fewer) == 12


def test_documents_keep_usable_images_only(tmp_path: Path) -> None:
    samples = [(f"d{i}", document([None, "t", None], [jpeg(100 + i), None, jpeg(200 + i)])) for i in range(8)]
    samples.append(("half", document([None, "t", None], [b"broken", None, jpeg(300)])))
    samples.append(("none", document(["t", None], [None, None])))
    samples.append(("many", document([None] * 14, [jpeg(400 + i) for i in range(14)])))
    samples.append(("odd", {"json": b'{"texts": [], "image_info": 5}'}))
    make_tar(tmp_path / "0.tar", samples)
    items, summary = choose(tmp_path, document_source=str(tmp_path / "0.tar"), documents=50)
    sizes = {item.origin.split()[-1]: len(item.images) for item in items}
    assert sizes == {**{f"d{i}": 2 for i in range(8)}, "half": 1, "many": 10}
    assert summary["kinds"]["interleaved"]["problems"] == {"missing_image": 1, "unsupported": 1}
    with pytest.raises(VlfilterError, match="no image for captions can be used"):
        choose(tmp_path, caption_source=str(tmp_path / "0.tar"))


def test_a_side_without_images_is_refused_before_anything_is_spent(tmp_path: Path) -> None:
    with pytest.raises(VlfilterError, match="none falls into validation"):
        choose(tmp_path, caption_source=files(tmp_path, 5), captions=5, validation=1e-6)
    with pytest.raises(VlfilterError, match="no images were given"):
        choose(tmp_path)
    with pytest.raises(VlfilterError, match="no such file"):
        choose(tmp_path, caption_source=str(tmp_path / "nowhere"))


def test_a_smaller_choice_is_part_of_a_larger_one_however_the_shards_are_cut(tmp_path: Path) -> None:
    make_tar(tmp_path / "whole" / "a.tar", pairs(60))
    for i in range(6):
        make_tar(tmp_path / "cut" / f"{i}.tar", pairs(10, 10 * (5 - i)))
    chosen = {}
    for name, count in (("whole", 8), ("whole", 20), ("cut", 20)):
        items, _ = choose(tmp_path / f"{name}{count}", caption_source=str(tmp_path / name), captions=count)
        chosen[name, count] = {(item.id, item.side) for item in items}
    assert chosen["whole", 8] < chosen["whole", 20] == chosen["cut", 20]


def recompressed(data: bytes, quality: int, scale: float) -> bytes:
    image = Image.open(io.BytesIO(data))
    small = image.resize((int(image.width * scale), int(image.height * scale)), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=quality)
    return file.getvalue()


def test_no_image_nor_a_copy_of_it_is_on_both_sides(tmp_path: Path) -> None:
    originals = [jpeg(i, (96, 80), 95) for i in range(24)]
    copies = [recompressed(data, 60, 0.8) for data in originals]
    make_tar(tmp_path / "a.tar", [(f"{i:03d}", {"jpg": d, "txt": b"a"}) for i, d in enumerate(originals)])
    slots = [[copies[i], None, copies[i ^ 1]] for i in range(12)]
    make_tar(tmp_path / "b.tar", [(f"d{i}", document([None, "t", None], s)) for i, s in enumerate(slots)])
    items, _ = choose(
        tmp_path, caption_source=str(tmp_path / "a.tar"), document_source=str(tmp_path / "b.tar"), validation=0.5
    )
    number = {data: i for both in (originals, copies) for i, data in enumerate(both)}
    sides: dict[int, set[str]] = {}
    for item in items:
        for path in item.images:
            sides.setdefault(number[(tmp_path / "images" / path).read_bytes()], set()).add(item.side)
    assert len(sides) == 24
    assert all(len(found) == 1 for found in sides.values())
    assert {side for found in sides.values() for side in found} == {"train", "validation"}


def test_copies_are_alike_and_other_images_are_not() -> None:
    seen = [thumbnail(picture(i, (64, 48))) for i in range(60)]
    for i in range(60):
        copy = Image.open(io.BytesIO(recompressed(jpeg(i, (64, 48)), 70, 1.5))).convert("RGB")
        seen.append(thumbnail(copy))
    flat = [thumbnail(Image.new("RGB", (64, 48), colour)) for colour in ("red", "blue", "white")]
    pairs = near_copies([*seen, *flat])
    assert {tuple(pair) for pair in pairs.tolist()} == {(60 + i, i) for i in range(60)}


def test_blocks_see_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = [thumbnail(picture(i % 7, (64, 48))) for i in range(40)]
    whole = near_copies(seen).tolist()
    monkeypatch.setattr("vlfilter.selection.likeness._BLOCK", 3)
    assert sorted(near_copies(seen).tolist()) == sorted(whole)
    assert len(whole) == sum(i % 7 == j % 7 for i in range(40) for j in range(i))


@given(st.integers(2, 40), st.lists(st.tuples(st.integers(0, 39), st.integers(0, 39)), max_size=60))
@settings(deadline=None)
def test_groups_are_the_connected_parts(count: int, edges: list[tuple[int, int]]) -> None:
    pairs = np.array([(one % count, other % count) for one, other in edges], np.int64).reshape(-1, 2)
    reach = np.eye(count, dtype=bool)
    for one, other in pairs:
        reach[one, other] = reach[other, one] = True
    for _ in range(6):
        reach = reach @ reach
    assert connected(count, pairs) == [int(np.flatnonzero(row)[0]) for row in reach]


@given(st.lists(st.sampled_from(["red boat", "green hill", "", "of the"]), max_size=30), st.integers(1, 5))
@settings(deadline=None, max_examples=40)
def test_sets_use_every_image_once_at_most(captions: list[str], size: int) -> None:
    sets = similar_sets(captions, size)
    places = [place for one in sets for place in one]
    assert len(places) == len(set(places)) == len(captions) // size * size
    assert all(len(one) == size for one in sets)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"id": "a", "kind": "poem", "images": ["x"], "side": "train"}], "row 0: kind"),
        ([{"id": "a", "kind": "caption", "images": [], "side": "train"}], "row 0: images"),
        ([{"id": "a", "kind": "caption", "images": ["x"], "side": "test"}], "row 0: side"),
        ([{"id": "a", "kind": "caption", "images": ["x"], "side": "train"}] * 2, "two caption items"),
        ({}, "not a JSON list"),
    ],
)
def test_a_list_of_items_from_elsewhere_is_checked(tmp_path: Path, rows: Any, message: str) -> None:
    (tmp_path / "items.json").write_text(json.dumps(rows))
    with pytest.raises(VlfilterError, match=message):
        read_items(str(tmp_path / "items.json"))
