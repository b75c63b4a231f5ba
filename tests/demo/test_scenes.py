from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("sklearn")
pytest.importorskip("skimage")

from vlfilter.demo import scenes as module
from vlfilter.demo.captions import BACKGROUNDS, DIGITS, PHOTOS
from vlfilter.demo.scenes import DIGIT_SPLIT, SIZE, photograph, scenes, tiles

SPLITS = ("train", "pool", "test")
NAMES = (*PHOTOS, *(b for b in BACKGROUNDS if b != "plain"))


def test_scenes_are_the_same_for_the_same_seed_and_others_for_another() -> None:
    first, again, other = (list(scenes("pool", 40, seed)) for seed in (0, 0, 1))
    assert [s.image.tobytes() for s in first] == [s.image.tobytes() for s in again]
    assert [s.attributes for s in first] == [s.attributes for s in again]
    assert [s.source for s in first] != [s.source for s in other]


def test_scenes_are_rgb_of_one_size_and_every_label_comes_equally_often() -> None:
    found = list(scenes("train", 60, 0))
    assert {(s.image.size, s.image.mode) for s in found} == {((SIZE, SIZE), "RGB")}
    labels = [s.attributes.label for s in found]
    assert {labels.count(label) for label in (*DIGITS, *PHOTOS)} == {3}


@pytest.mark.parametrize("name", NAMES)
def test_no_pixel_of_a_photograph_is_in_two_splits(name: str) -> None:
    width, height = photograph(name).size
    taken: set[tuple[int, int]] = set()
    for split in SPLITS:
        boxes = tiles(name, split)
        assert boxes
        for left, top, right, bottom in boxes:
            assert 0 <= left < right <= width
            assert 0 <= top < bottom <= height
            corners = {(x // (width // 4), y // (height // 4)) for x in (left, right - 1) for y in (top, bottom - 1)}
            assert len(corners) == 1  # a tile lies within one cell of the grid
            assert not corners & taken
            taken |= corners
    assert len(taken) == 16


@pytest.mark.parametrize("split", SPLITS)
def test_crops_stay_within_their_splits_tiles(split: module.Split) -> None:
    for scene in scenes(split, 200, 3):
        name, _, where = scene.source.partition(":")
        if name == "digit":
            assert DIGIT_SPLIT[int(where) % len(DIGIT_SPLIT)] == split
            continue
        box = tuple(map(int, where.split(",")))
        assert any(
            left <= box[0] and top <= box[1] and box[2] <= right and box[3] <= bottom
            for left, top, right, bottom in tiles(name, split)
        ), scene.source


def test_every_source_ships_with_the_libraries() -> None:
    """Nothing may be fetched: the files must lie in the installed packages themselves."""
    import skimage
    import sklearn

    for name in NAMES:
        library, path = (
            (sklearn, f"datasets/images/{module._SKLEARN[name]}")
            if name in module._SKLEARN
            else (skimage, f"data/{module._SKIMAGE[name]}")
        )
        assert (Path(library.__file__).parent / path).is_file(), name
